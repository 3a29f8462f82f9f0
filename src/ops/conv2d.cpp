#include "graft/ops/conv2d.h"

#include "kernels/reduce.h"
#include "ops/attributes.h"
#include "ops/support.h"

namespace graft::ops {

ConvGeometry conv_geometry(const Conv2dOptions& o, const Shape& x, const Shape& w) {
  check(x.rank() == 4 && w.rank() == 4,
        "[conv2d] expected input [N, H, W, Ci] and weight [Co, Kh, Kw, Ci / groups], got {} and {}", x, w);
  const Window window{.kernel = {w[1], w[2]}, .stride = o.stride, .dilation = o.dilation, .padding = o.padding};
  ConvGeometry g{lay("conv2d", window, x), w[0], o.groups};
  check(o.groups > 0 && g.channels % o.groups == 0 && g.out_channels % o.groups == 0,
        "[conv2d] {} groups do not divide {} input and {} output channels", o.groups, g.channels, g.out_channels);
  check(w[3] == g.in_group(), "[conv2d] expected input channels {} (weight {}, {} groups), got {} (input {})",
        w[3] * o.groups, w, o.groups, g.channels, x);
  return g;
}

std::string Conv2d::attributes() const {
  std::string text =
      Window{.stride = options.stride, .dilation = options.dilation, .padding = options.padding}.to_string();
  text = text.substr(text.find("stride"));
  if (options.groups != 1) text += fmt::format(", {} groups", options.groups);
  if (has_bias) text += ", bias";
  if (has_residual) text += ", residual";
  if (options.activation != Activation::linear) text += fmt::format(", {}", graft::name(options.activation));
  return text;
}

std::vector<Spec> Conv2d::infer(std::span<const Spec> in) const {
  const ConvGeometry g = conv_geometry(options, in[0].shape, in[1].shape);
  const Spec y{{g.batch, g.out_height, g.out_width, g.out_channels}, in[0].dtype};
  check(is_floating(in[0].dtype), "[conv2d] needs a floating type, got {}", in[0].dtype);
  check_parameter_type(name(), "weight", in[0].dtype, in[1].dtype);
  if (has_bias) check_exact(name(), "bias", in[0].dtype, in[2], {g.out_channels});
  if (has_residual)
    check(in.back() == y, "[conv2d] expected residual {} {}, got {} {}", y.dtype, y.shape, in.back().dtype,
          in.back().shape);
  return {y};
}

void Conv2d::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::conv2d_forward(context, conv_geometry(options, in[0].shape, in[1].shape), in[0], in[1],
                          has_bias ? in[2] : Operand{}, has_residual ? in.back() : Operand{}, options.activation,
                          out[0]);
}

Saves Conv2d::saves(Slots wanted) const {
  check_fused(name(), options.activation);
  Saves saves;
  if (wanted.has(0)) saves.inputs.add(1);
  if (wanted.has(1)) saves.inputs.add(0);
  if (options.activation != Activation::linear) saves.outputs.add(0);
  return saves;
}

// With z the sum under the activation: dz = dy f'(y). z is linear in x, w, bias and residual, so dx is dz correlated
// with the flipped w, dw is x correlated with dz, dbias sums dz over pixels and dresidual is dz.
void Conv2d::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                      std::span<const Gradient> dx) const {
  const ConvGeometry g = conv_geometry(options, saved.inputs[0].shape, saved.inputs[1].shape);
  const BeforeActivation dz(context, options.activation, saved, dy[0]);
  if (dx[0]) kernels::conv2d_backward_input(context, g, dz.get(), saved.inputs[1], dx[0]);
  if (dx[1]) kernels::conv2d_backward_weight(context, g, saved.inputs[0], dz.get(), dx[1]);
  if (has_bias && dx[2]) kernels::sum_rows(context, dz.get(), dx[2]);
  if (has_residual) dz.give(context, dx.back());
}

std::shared_ptr<const Op> Conv2d::with_activation(Activation function) const {
  if (options.activation != Activation::linear) return nullptr;
  auto op = std::make_shared<Conv2d>(*this);
  op->options.activation = function;
  return op;
}

std::shared_ptr<const Op> Conv2d::with_residual() const {
  if (has_residual || options.activation != Activation::linear) return nullptr;
  return std::make_shared<const Conv2d>(options, has_bias, true);
}

std::shared_ptr<const Op> Conv2d::with_padding(const Padding& more, bool) const {
  const auto padding = padded(options.padding, more);
  if (!padding) return nullptr;
  auto op = std::make_shared<Conv2d>(*this);
  op->options.padding = *padding;
  return op;
}

double Conv2d::operations(std::span<const Spec> in, std::span<const Spec> out) const {
  const Shape& w = in[1].shape;
  return 2.0 * static_cast<double>(out[0].shape.elements()) * static_cast<double>(w[1] * w[2] * w[3]);
}

Tensor conv2d(const Tensor& x, const Tensor& w, const Conv2dOptions& options, const Tensor& bias,
              const Tensor& residual) {
  std::vector<Tensor> inputs{x, w};
  if (bias.defined()) inputs.push_back(bias);
  if (residual.defined()) inputs.push_back(residual);
  return autograd::apply(std::make_shared<const Conv2d>(options, bias.defined(), residual.defined()), inputs).front();
}

}  // namespace graft::ops
