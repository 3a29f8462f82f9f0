#include "graft/ops/activation.h"

#include "ops/support.h"

namespace graft::ops {

std::vector<Spec> Activate::infer(std::span<const Spec> in) const {
  check(is_floating(in[0].dtype), "[{}] needs a floating type, got {}", name(), in[0].dtype);
  return {in[0]};
}

void Activate::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::activation_forward(context, function, in[0], out[0]);
}

Saves Activate::saves(Slots) const {
  if (function == Activation::linear) return {};
  if (derivative_from_result(function)) return {.inputs = {}, .outputs = {0}};
  return {.inputs = {0}, .outputs = {}};
}

void Activate::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                        std::span<const Gradient> dx) const {
  const Operand& known = derivative_from_result(function) ? saved.outputs[0] : saved.inputs[0];
  if (dx[0]) kernels::activation_backward(context, function, known, dy[0], dx[0]);
}

Tensor activate(const Tensor& x, Activation function) { return autograd::apply(Activate(function), {x}); }

Tensor relu(const Tensor& x) { return activate(x, Activation::relu); }
Tensor relu6(const Tensor& x) { return activate(x, Activation::relu6); }
Tensor sigmoid(const Tensor& x) { return activate(x, Activation::sigmoid); }
Tensor tanh(const Tensor& x) { return activate(x, Activation::tanh); }
Tensor gelu(const Tensor& x) { return activate(x, Activation::gelu); }
Tensor gelu_tanh(const Tensor& x) { return activate(x, Activation::gelu_tanh); }
Tensor silu(const Tensor& x) { return activate(x, Activation::silu); }

}  // namespace graft::ops
