#include "graft/ops/linear.h"

#include "kernels/linear.h"
#include "kernels/reduce.h"
#include "ops/support.h"

namespace graft::ops {

std::string Linear::attributes() const {
  std::string text = has_bias ? "bias" : "";
  if (activation != Activation::linear) text += fmt::format("{}{}", text.empty() ? "" : ", ", graft::name(activation));
  return text;
}

std::vector<Spec> Linear::infer(std::span<const Spec> in) const {
  const Shape &x = in[0].shape, &w = in[1].shape;
  check(x.rank() >= 1 && w.rank() == 2, "[linear] expected input [..., in] and weight [out, in], got {} and {}", x, w);
  check(x[-1] == w[1], "[linear] expected {} input features (weight {}), got {} (input {})", w[1], w, x[-1], x);
  check(is_floating(in[0].dtype), "[linear] needs a floating type, got {}", in[0].dtype);
  check_parameter_type(name(), "weight", in[0].dtype, in[1].dtype);
  if (has_bias) check_exact(name(), "bias", in[0].dtype, in[2], {w[0]});
  return {{x.with(-1, w[0]), in[0].dtype}};
}

void Linear::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::linear_forward(context, in[0], in[1], has_bias ? in[2] : Operand{}, activation, out[0]);
}

Saves Linear::saves(Slots wanted) const {
  check_fused(name(), activation);
  Saves saves;
  if (wanted.has(0)) saves.inputs.add(1);
  if (wanted.has(1)) saves.inputs.add(0);
  if (activation != Activation::linear) saves.outputs.add(0);
  return saves;
}

// With z = x w^T + bias: dz = dy f'(y), dx = dz w, dw = dz^T x, and dbias sums dz over the rows.
void Linear::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                      std::span<const Gradient> dx) const {
  const BeforeActivation dz(context, activation, saved, dy[0]);
  if (dx[0]) kernels::linear_backward_input(context, dz.get(), saved.inputs[1], dx[0]);
  if (dx[1]) kernels::linear_backward_weight(context, saved.inputs[0], dz.get(), dx[1]);
  if (has_bias && dx[2]) kernels::sum_rows(context, dz.get(), dx[2]);
}

std::shared_ptr<const Op> Linear::with_activation(Activation function) const {
  return activation == Activation::linear ? std::make_shared<const Linear>(function, has_bias) : nullptr;
}

double Linear::operations(std::span<const Spec> in, std::span<const Spec> out) const {
  return 2.0 * static_cast<double>(out[0].shape.elements()) * static_cast<double>(in[1].shape[1]);
}

Tensor linear(const Tensor& x, const Tensor& w, const Tensor& bias, Activation activation) {
  std::vector<Tensor> inputs{x, w};
  if (bias.defined()) inputs.push_back(bias);
  return autograd::apply(std::make_shared<const Linear>(activation, bias.defined()), inputs).front();
}

}  // namespace graft::ops
