#pragma once

#include "kernels/kernel.h"

namespace graft {

/// The numbers of one step of stochastic gradient descent.
struct SgdUpdate {
  double rate = 0;
  double decay = 0;
  double momentum = 0;
  bool nesterov = false;
  double gradient_scale = 1;  ///< the gradient is multiplied by this first
};

/// The numbers of one step of Adam.
struct AdamUpdate {
  double rate = 0;
  double decay = 0;
  bool decoupled = false;  ///< AdamW: decay acts on the parameter, not on the gradient
  double beta1 = 0;
  double beta2 = 0;
  double epsilon = 0;
  double correction1 = 1;  ///< 1 - beta1^t
  double correction2 = 1;  ///< 1 - beta2^t
  double gradient_scale = 1;
};

namespace kernels {
namespace cpu {
void sgd_update(Context&, const SgdUpdate&, const Operand& g, const Operand& w, const Operand& v);
void adam_update(Context&, const AdamUpdate&, const Operand& g, const Operand& w, const Operand& m, const Operand& s);
void sum_squares(Context&, const Operand& x, const Operand& sum);
}  // namespace cpu

GRAFT_DECLARE_GPU(sgd_update)
GRAFT_DECLARE_GPU(adam_update)
GRAFT_DECLARE_GPU(sum_squares)

/// One pass over gradient g, parameter w and velocity v, which is absent without momentum; all f32 or all f64.
inline constexpr Kernel<const SgdUpdate&, const Operand&, const Operand&, const Operand&> sgd_update{
    "sgd_update", {.native = {cpu::sgd_update}, .library = {}}, GRAFT_GPU(sgd_update)};
/// One pass over gradient g, parameter w and moments m, s; all f32 or all f64.
inline constexpr Kernel<const AdamUpdate&, const Operand&, const Operand&, const Operand&, const Operand&> adam_update{
    "adam_update", {.native = {cpu::adam_update}, .library = {}}, GRAFT_GPU(adam_update)};
/// sum += the sum of x^2, an f64 scalar; blocks of x are summed one by one, so the order depends on its size alone.
inline constexpr Kernel<const Operand&, const Operand&> sum_squares{
    "sum_squares", {.native = {cpu::sum_squares}, .library = {}}, GRAFT_GPU(sum_squares)};

}  // namespace kernels
}  // namespace graft
