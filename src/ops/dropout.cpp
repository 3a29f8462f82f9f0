#include "graft/ops/dropout.h"

#include "kernels/dropout.h"
#include "ops/support.h"

namespace graft::ops {

std::string Dropout::attributes() const { return fmt::format("rate {}", rate); }

std::vector<Spec> Dropout::infer(std::span<const Spec> in) const {
  check(is_floating(in[0].dtype), "[dropout] needs a floating type, got {}", in[0].dtype);
  check(rate >= 0 && rate < 1, "[dropout] the rate lies in [0, 1), got {}", rate);
  return {in[0], {{2}, DType::i64}};
}

void Dropout::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::dropout_forward(context, rate, in[0], out[0], out[1]);
}

Saves Dropout::saves(Slots) const { return {.inputs = {}, .outputs = {1}}; }

// y is x times a constant mask, and so is dx from dy.
void Dropout::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                       std::span<const Gradient> dx) const {
  if (dx[0]) kernels::dropout_backward(context, rate, saved.outputs[1], dy[0], dx[0]);
}

Tensor dropout(const Tensor& x, double rate) { return rate == 0 ? x : autograd::apply(Dropout(rate), {x}); }

}  // namespace graft::ops
