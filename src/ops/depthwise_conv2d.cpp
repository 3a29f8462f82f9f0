#include "graft/ops/depthwise_conv2d.h"

#include "kernels/depthwise_conv2d.h"
#include "kernels/reduce.h"
#include "ops/support.h"

namespace graft::ops {
namespace {

DepthwiseGeometry geometry(const DepthwiseConv2dOptions& o, const Shape& x, const Shape& w) {
  check(x.rank() == 4 && w.rank() == 3,
        "[depthwise_conv2d] expected input [N, H, W, C] and weight [Kh, Kw, C multiplier], got {} and {}", x, w);
  const Window window{.kernel = {w[0], w[1]}, .stride = o.stride, .dilation = o.dilation, .padding = o.padding};
  const WindowGeometry laid = lay("depthwise_conv2d", window, x);
  check(w[2] > 0 && x[3] > 0 && w[2] % x[3] == 0,
        "[depthwise_conv2d] expected a multiple of {} channels in weight {}, as in input {}", x[3], w, x);
  return {laid, w[2] / x[3]};
}

}  // namespace

std::string DepthwiseConv2d::attributes() const {
  std::string text =
      Window{.stride = options.stride, .dilation = options.dilation, .padding = options.padding}.to_string();
  text = text.substr(text.find("stride"));
  if (has_bias) text += ", bias";
  if (options.activation != Activation::linear) text += fmt::format(", {}", graft::name(options.activation));
  return text;
}

std::vector<Spec> DepthwiseConv2d::infer(std::span<const Spec> in) const {
  const DepthwiseGeometry g = geometry(options, in[0].shape, in[1].shape);
  check(is_floating(in[0].dtype), "[depthwise_conv2d] needs a floating type, got {}", in[0].dtype);
  check_parameter_type(name(), "weight", in[0].dtype, in[1].dtype);
  if (has_bias) {
    check(in[2].shape == Shape{g.out_channels()}, "[depthwise_conv2d] expected bias [{}], got {}", g.out_channels(),
          in[2].shape);
    check(in[2].dtype == exact(in[0].dtype), "[depthwise_conv2d] expected bias in {}, got {}", exact(in[0].dtype),
          in[2].dtype);
  }
  return {{{g.batch, g.out_height, g.out_width, g.out_channels()}, in[0].dtype}};
}

void DepthwiseConv2d::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::depthwise_conv2d_forward(context, geometry(options, in[0].shape, in[1].shape), in[0], in[1],
                                    has_bias ? in[2] : Operand{}, options.activation, out[0]);
}

Saves DepthwiseConv2d::saves(Slots wanted) const {
  check_fused(name(), options.activation);
  Saves saves;
  if (wanted.has(0)) saves.inputs.add(1);
  if (wanted.has(1)) saves.inputs.add(0);
  if (options.activation != Activation::linear) saves.outputs.add(0);
  return saves;
}

// As for conv2d: with z the sum under the activation, dz = dy f'(y), and z is linear in x, w and bias.
void DepthwiseConv2d::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                               std::span<const Gradient> dx) const {
  const DepthwiseGeometry g = geometry(options, saved.inputs[0].shape, saved.inputs[1].shape);
  const BeforeActivation dz(context, options.activation, saved, dy[0]);
  if (dx[0]) kernels::depthwise_conv2d_backward_input(context, g, dz.get(), saved.inputs[1], dx[0]);
  if (dx[1]) kernels::depthwise_conv2d_backward_weight(context, g, saved.inputs[0], dz.get(), dx[1]);
  if (has_bias && dx[2]) kernels::sum_rows(context, dz.get(), dx[2]);
}

std::shared_ptr<const Op> DepthwiseConv2d::with_activation(Activation function) const {
  if (options.activation != Activation::linear) return nullptr;
  auto op = std::make_shared<DepthwiseConv2d>(*this);
  op->options.activation = function;
  return op;
}

std::shared_ptr<const Op> DepthwiseConv2d::with_padding(const Padding& more, bool) const {
  const auto padding = padded(options.padding, more);
  if (!padding) return nullptr;
  auto op = std::make_shared<DepthwiseConv2d>(*this);
  op->options.padding = *padding;
  return op;
}

double DepthwiseConv2d::operations(std::span<const Spec> in, std::span<const Spec> out) const {
  return 2.0 * static_cast<double>(out[0].shape.elements()) * static_cast<double>(in[1].shape[0] * in[1].shape[1]);
}

Tensor depthwise_conv2d(const Tensor& x, const Tensor& w, const DepthwiseConv2dOptions& options, const Tensor& bias) {
  std::vector<Tensor> inputs{x, w};
  if (bias.defined()) inputs.push_back(bias);
  return autograd::apply(std::make_shared<const DepthwiseConv2d>(options, bias.defined()), inputs).front();
}

}  // namespace graft::ops
