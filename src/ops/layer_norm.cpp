#include "graft/ops/layer_norm.h"

#include "kernels/layer_norm.h"
#include "kernels/reduce.h"
#include "ops/support.h"

namespace graft::ops {

std::string LayerNorm::attributes() const { return fmt::format("epsilon {}", epsilon); }

std::vector<Spec> LayerNorm::infer(std::span<const Spec> in) const {
  const Spec& x = in[0];
  check(is_floating(x.dtype), "[layer_norm] needs a floating type, got {}", x.dtype);
  check(x.shape.rank() > 0, "[layer_norm] expected input [..., C], got a scalar");
  check(epsilon > 0, "[layer_norm] epsilon must be above 0, got {}", epsilon);
  check_exact(name(), "gamma", x.dtype, in[1], {x.shape[-1]});
  check_exact(name(), "beta", x.dtype, in[2], {x.shape[-1]});
  const Spec row{Shape(std::span<const Index>(x.shape.begin(), x.shape.end() - 1)), exact(x.dtype)};
  return {x, row, row};
}

void LayerNorm::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::layer_norm_forward(context, epsilon, in[0], in[1], in[2], out[0], out[1], out[2]);
}

Saves LayerNorm::saves(Slots wanted) const {
  Saves saves;
  if (wanted.has(0)) saves.inputs.add(1);
  if (wanted.has(0) || wanted.has(1)) {
    saves.inputs.add(0);
    saves.outputs = {1, 2};
  }
  return saves;
}

// With n the normalised row, y = n gamma + beta: dbeta = sum of dy, dgamma = sum of dy n. n does not change when x is
// shifted or scaled, so dx is g = dy gamma without its parts along 1 and along n, divided by the deviation.
void LayerNorm::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                         std::span<const Gradient> dx) const {
  const Operand &x = saved.inputs[0], &gamma = saved.inputs[1], &mean = saved.outputs[1], &inverse = saved.outputs[2];
  if (dx[0]) kernels::layer_norm_backward_input(context, x, gamma, mean, inverse, dy[0], dx[0]);
  if (dx[1]) kernels::layer_norm_backward_gamma(context, x, mean, inverse, dy[0], dx[1]);
  if (dx[2]) kernels::sum_rows(context, dy[0], dx[2]);
}

double LayerNorm::operations(std::span<const Spec> in, std::span<const Spec>) const {
  return 8.0 * static_cast<double>(in[0].shape.elements());
}

Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double epsilon) {
  return autograd::apply(LayerNorm(epsilon), {x, gamma, beta});
}

}  // namespace graft::ops
