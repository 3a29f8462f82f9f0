#include "graft/ops/softmax.h"

#include "kernels/softmax.h"
#include "ops/support.h"

namespace graft::ops {

std::vector<Spec> Softmax::infer(std::span<const Spec> in) const {
  check(is_floating(in[0].dtype), "[{}] needs a floating type, got {}", name(), in[0].dtype);
  check(in[0].shape.rank() > 0, "[{}] needs at least one axis, got a scalar", name());
  return {in[0]};
}

void Softmax::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::softmax_forward(context, log, in[0], out[0]);
}

Saves Softmax::saves(Slots) const { return {.inputs = {}, .outputs = {0}}; }

// dy_i/dx_j = y_i (delta_ij - y_j), and delta_ij - y_j for the logarithm, so both need y alone.
void Softmax::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                       std::span<const Gradient> dx) const {
  if (dx[0]) kernels::softmax_backward(context, log, saved.outputs[0], dy[0], dx[0]);
}

double Softmax::operations(std::span<const Spec> in, std::span<const Spec>) const {
  return 4.0 * static_cast<double>(in[0].shape.elements());  // the largest, the difference, the exponential, the sum
}

Tensor softmax(const Tensor& x) { return autograd::apply(Softmax(false), {x}); }
Tensor log_softmax(const Tensor& x) { return autograd::apply(Softmax(true), {x}); }

}  // namespace graft::ops
