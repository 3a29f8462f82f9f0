#pragma once

#include "kernels/kernel.h"

namespace graft {

/// What an optimizer's step does to one tensor. Kernels read a table of these rows from the memory of the device when
/// they run, so that one launch serves all tensors, and a step that was recorded takes the rates of the day from it.
struct UpdateRow {
  void* gradient = nullptr;
  void* weight = nullptr;
  void* first = nullptr;    ///< momentum, or first moment; null where the algorithm has none
  void* second = nullptr;   ///< second moment
  void* rounded = nullptr;  ///< where a copy of the new weight in half precision goes; null: nowhere
  DType rounded_dtype = DType::bf16;
  Index elements = 0;
  Index first_chunk = 0;  ///< kernels cut tensors into chunks, which are counted through the table
  double rate = 0;
  double decay = 0;
  double correction1 = 1;  ///< Adam: 1 - beta1^t
  double correction2 = 1;  ///< Adam: 1 - beta2^t
};

/// A table in memory: `count` rows, for tensors of one type with one for gradients and state.
struct UpdateTable {
  static constexpr Index kChunk = 1 << 14;  // elements: long enough to pay for waking a thread, or a block of a GPU

  const UpdateRow* rows = nullptr;
  Index count = 0;
  Index chunks = 0;  ///< of all rows together
  DType dtype = DType::f32;
};

struct SgdRule {
  double momentum = 0;
  bool nesterov = false;
};

struct AdamRule {
  double beta1 = 0;
  double beta2 = 0;
  double epsilon = 0;
  bool decoupled = false;  ///< AdamW: decay acts on the parameter, not on the gradient
};

/// What is decided about a step where its gradients are, so that nobody has to wait for them: f64 [8] in memory.
struct StepControl {
  double loss_scale = 1;      ///< what the loss was multiplied by before backward
  double gradient_scale = 1;  ///< what gradients are multiplied by: 1 / loss_scale, and less where they are clipped
  double applies = 1;         ///< 0: this step leaves parameters and state as they are
  double norm = 0;            ///< of all gradients together, the loss scale taken off
  double finite_in_row = 0;   ///< steps since the loss scale last changed
  double skipped = 0;         ///< steps left out because a gradient was not finite
  double steps = 0;           ///< that came here
  double failed = -1;         ///< the first step, counted from 0, that no loss scale can mend; -1: none
};
constexpr Index kStepControlNumbers = sizeof(StepControl) / sizeof(double);

/// How a step is decided.
struct StepRule {
  double clip_norm = 0;        ///< 0: gradients are not clipped
  double growth_interval = 0;  ///< finite steps after which the loss scale doubles; 0: it is fixed
  bool stops = false;          ///< after a step that failed no other applies
};

namespace kernels {
namespace cpu {
void sgd_update(Context&, const SgdRule&, const UpdateTable&, const Operand& control);
void adam_update(Context&, const AdamRule&, const UpdateTable&, const Operand& control);
void sum_squares(Context&, const UpdateTable&, const Operand& sum);
void decide_step(Context&, const StepRule&, const Operand& squares, const Operand& loss, const Operand& control);
}  // namespace cpu

GRAFT_DECLARE_GPU(sgd_update)
GRAFT_DECLARE_GPU(adam_update)
GRAFT_DECLARE_GPU(sum_squares)
GRAFT_DECLARE_GPU(decide_step)

/// One pass over gradients, parameters and velocities. Without a control gradients are taken as they are.
inline constexpr Kernel<const SgdRule&, const UpdateTable&, const Operand&> sgd_update{
    "sgd_update", {.native = {cpu::sgd_update}, .library = {}}, GRAFT_GPU(sgd_update)};
/// One pass over gradients, parameters and moments.
inline constexpr Kernel<const AdamRule&, const UpdateTable&, const Operand&> adam_update{
    "adam_update", {.native = {cpu::adam_update}, .library = {}}, GRAFT_GPU(adam_update)};
/// sum += the sum of the squares of all gradients, an f64 scalar; chunk by chunk, so that the order depends on the
/// sizes alone.
inline constexpr Kernel<const UpdateTable&, const Operand&> sum_squares{
    "sum_squares", {.native = {cpu::sum_squares}, .library = {}}, GRAFT_GPU(sum_squares)};
/// Brings a StepControl from one step to the next, given the sum of the squares of the scaled gradients and, where it
/// is there, the loss (a scalar, f32 or f64).
inline constexpr Kernel<const StepRule&, const Operand&, const Operand&, const Operand&> decide_step{
    "decide_step", {.native = {cpu::decide_step}, .library = {}}, GRAFT_GPU(decide_step)};

}  // namespace kernels
}  // namespace graft
