#include "kernels/conv2d_batch_norm.h"
#include "library/graphs.h"
#include "library/operands.h"
#include "library/plans.h"
#include "library/preference.h"

// Orders of values in the graphs: x, w, y, residual, bias; dz, w, dx; dz, x, dw.
namespace graft::cudnn {
namespace {

using library::Rounded;
using library::Written;
using Kind = Operation::Kind;

bool usable(const Operand& image, const Operand& pixels) {
  return library::computes(image.dtype) && image.elements() > 0 && pixels.elements() > 0;
}

bool tensor_cores(const Context& context, DType type) { return type != DType::f32 || context.allow_tf32; }

Shape filter_shape(const ConvGeometry& g) { return {g.out_channels, g.kernel_height, g.kernel_width, g.in_group()}; }

// cuDNN wants a filter's taps one after the other: depthwise weights are transposed for it.
Value filter_of(const Convolution& c, const Operand& w, DType type) {
  return filter(c.depthwise ? library::future(filter_shape(c.geometry), type) : Rounded::like(w, type));
}

/// Depthwise weights [Kh, Kw, Co] as they lie in a filter [Co, Kh, Kw, 1].
Strided as_filter(const Convolution& c, const Operand& w) {
  constexpr std::array kAxes{2, 0, 1, 3};
  const ConvGeometry& g = c.geometry;
  return Strided(Operand(w.data, {g.kernel_height, g.kernel_width, g.out_channels, 1}, w.dtype)).permuted(kAxes);
}

class Filter {
 public:
  Filter(Context& context, const Convolution& c, const Operand& w, DType type) : rounded_(context, w, type) {
    operand_ = *rounded_;
    if (!c.depthwise) return;
    transposed_ = Tensor::empty(filter_shape(c.geometry), type, context.device);
    kernels::cuda::copy(context, as_filter(c, operand_), Operand(transposed_), 1, false);
    operand_ = transposed_;
  }
  const void* data() const { return operand_.data; }

 private:
  Rounded rounded_;
  Tensor transposed_;
  Operand operand_;
};

}  // namespace

std::optional<OperationGraph> convolution_graph(const Context& context, const Convolution& c, const Operand& x,
                                                const Operand& w, const Operand& bias, const Operand& residual,
                                                Activation activation, const Operand& y) {
  if (!usable(x, y)) return std::nullopt;
  OperationGraph graph{.tensor_cores = tensor_cores(context, x.dtype)};
  const int from = graph.add(image(x)), weights = graph.add(filter_of(c, w, x.dtype)), to = graph.add(image(y));
  const auto extents = image(y).extents;
  // Each step but the last writes an intermediate value. Without tensor cores cuDNN has engines for this order alone.
  int steps = (residual ? 1 : 0) + (bias ? 1 : 0) + (activation != Activation::linear ? 1 : 0);
  const auto next = [&] { return steps-- > 0 ? graph.intermediate(extents) : to; };
  int z = next();
  graph.call(Kind::convolution, {from, weights}, {z}, window_of(c.geometry));
  const auto step = [&](Kind kind, int operand, const Operation& attributes) {
    const int made = next();
    graph.call(kind, {z, operand}, {made}, attributes);
    z = made;
  };
  if (residual) step(Kind::add, graph.add(image(residual)), {});
  if (bias) step(Kind::add, graph.add(channels(bias)), {});
  if (activation != Activation::linear) step(Kind::activate, -1, {.activation = activation});
  return graph;
}

std::optional<OperationGraph> convolution_backward_input_graph(const Context& context, const Convolution& c,
                                                               const Operand& dz, const Operand& w,
                                                               const Gradient& dx) {
  if (!usable(dx.to, dz)) return std::nullopt;
  OperationGraph graph{.tensor_cores = tensor_cores(context, dz.dtype)};
  const int from = graph.add(image(dz)), weights = graph.add(filter_of(c, w, dz.dtype)),
            to = graph.add(image(Written::like(dx)));
  graph.call(Kind::convolution_backward_input, {from, weights}, {to}, window_of(c.geometry));
  return graph;
}

std::optional<OperationGraph> convolution_backward_weight_graph(const Context& context, const Convolution& c,
                                                                const Operand& x, const Operand& dz,
                                                                const Gradient& dw) {
  // The gradient of a half weight is rounded once, at its end: cuDNN sums into f32.
  if (!usable(x, dz) || dw.to.dtype != DType::f32) return std::nullopt;
  OperationGraph graph{.tensor_cores = tensor_cores(context, x.dtype)};
  const int slopes = graph.add(image(dz)), from = graph.add(image(x));
  const int to =
      graph.add(filter(c.depthwise ? library::future(filter_shape(c.geometry), DType::f32) : Written::like(dw)));
  if (!is_half(x.dtype)) {
    graph.call(Kind::convolution_backward_weight, {slopes, from}, {to}, window_of(c.geometry));
    return graph;
  }
  // Of halves cuDNN gives f32 sums only to an operation that follows: here one that changes nothing.
  const int sums = graph.intermediate(filter(library::future(filter_shape(c.geometry), DType::f32)).extents);
  graph.call(Kind::convolution_backward_weight, {slopes, from}, {sums}, window_of(c.geometry));
  graph.call(Kind::multiply, {sums, graph.constant(1)}, {to});
  return graph;
}

}  // namespace graft::cudnn

namespace graft::kernels::cudnn {
namespace {

using namespace graft::cudnn;
using library::Written;

void forward(Context& context, const char* name, const Convolution& c, const Operand& x, const Operand& w,
             const Operand& bias, const Operand& residual, Activation activation, const Operand& y) {
  const auto plan = plan_for(context, convolution_graph(context, c, x, w, bias, residual, activation, y));
  const Filter weights(context, c, w, x.dtype);
  run(context, name, *plan, {x.data, weights.data(), y.data, residual.data, bias.data});
}

void backward_input(Context& context, const char* name, const Convolution& c, const Operand& dz, const Operand& w,
                    const Gradient& dx) {
  const auto plan = plan_for(context, convolution_backward_input_graph(context, c, dz, w, dx));
  const Filter weights(context, c, w, dz.dtype);
  const Written to(context, dx);
  run(context, name, *plan, {dz.data, weights.data(), (*to).data});
  to.finish(context);
}

}  // namespace

void conv2d_forward(Context& context, const ConvGeometry& g, const Operand& x, const Operand& w, const Operand& bias,
                    const Operand& residual, Activation activation, const Operand& y) {
  forward(context, "cudnn_conv2d", g, x, w, bias, residual, activation, y);
}
bool conv2d_forward_supports(const Context& context, const ConvGeometry& g, const Operand& x, const Operand& w,
                             const Operand& bias, const Operand& residual, Activation activation, const Operand& y) {
  return plan_for(context, convolution_graph(context, g, x, w, bias, residual, activation, y)) != nullptr;
}
// What follows the products is compiled into them.
bool conv2d_forward_yields(const Context& context, const ConvGeometry&, const Operand& x, const Operand&,
                           const Operand& bias, const Operand& residual, Activation activation, const Operand&) {
  return (bias || residual || activation != Activation::linear) && library::own_products_suffice(context, x.dtype);
}

void conv2d_backward_input(Context& context, const ConvGeometry& g, const Operand& dz, const Operand& w, Gradient dx) {
  backward_input(context, "cudnn_conv2d_backward_input", g, dz, w, dx);
}
bool conv2d_backward_input_supports(const Context& context, const ConvGeometry& g, const Operand& dz, const Operand& w,
                                    Gradient dx) {
  return plan_for(context, convolution_backward_input_graph(context, g, dz, w, dx)) != nullptr;
}
// It does not add to what is there: that would be a pass of its own over the image.
bool conv2d_backward_input_yields(const Context& context, const ConvGeometry&, const Operand& dz, const Operand&,
                                  Gradient dx) {
  return dx.accumulate && library::own_products_suffice(context, dz.dtype);
}

void conv2d_backward_weight(Context& context, const ConvGeometry& g, const Operand& x, const Operand& dz, Gradient dw) {
  const auto plan = plan_for(context, convolution_backward_weight_graph(context, g, x, dz, dw));
  const Written to(context, dw);
  run(context, "cudnn_conv2d_backward_weight", *plan, {dz.data, x.data, (*to).data});
  to.finish(context);
}
bool conv2d_backward_weight_supports(const Context& context, const ConvGeometry& g, const Operand& x, const Operand& dz,
                                     Gradient dw) {
  return plan_for(context, convolution_backward_weight_graph(context, g, x, dz, dw)) != nullptr;
}
// So is the operation that lets its sums stay in f32.
bool conv2d_backward_weight_yields(const Context& context, const ConvGeometry&, const Operand& x, const Operand&,
                                   Gradient) {
  return library::own_products_suffice(context, x.dtype);
}

void conv2d_batch_norm(Context& context, const ConvGeometry& g, const BatchNormAttributes& a,
                       const Conv2dBatchNormOperands& o) {
  cpu::conv2d_batch_norm(context, g, a, o);  // one kernel after the other, wherever they run
}
bool conv2d_batch_norm_supports(const Context& context, const ConvGeometry& g, const BatchNormAttributes& a,
                                const Conv2dBatchNormOperands& o) {
  return conv2d_forward_supports(context, g, o.x, o.w, o.bias, {}, Activation::linear, o.z) &&
         (context.engine != Engine::library ||
          batch_norm_batch_supports(context, a, o.z, o.gamma, o.beta, o.residual, o.moving, o.y, o.saved));
}
bool conv2d_batch_norm_yields(const Context& context, const ConvGeometry& g, const BatchNormAttributes&,
                              const Conv2dBatchNormOperands& o) {
  return conv2d_forward_yields(context, g, o.x, o.w, o.bias, {}, Activation::linear, o.z);
}

void depthwise_conv2d_forward(Context& context, const DepthwiseGeometry& g, const Operand& x, const Operand& w,
                              const Operand& bias, Activation activation, const Operand& y) {
  forward(context, "cudnn_depthwise_conv2d", g, x, w, bias, {}, activation, y);
}
bool depthwise_conv2d_forward_supports(const Context& context, const DepthwiseGeometry& g, const Operand& x,
                                       const Operand& w, const Operand& bias, Activation activation, const Operand& y) {
  return plan_for(context, convolution_graph(context, g, x, w, bias, {}, activation, y)) != nullptr;
}
bool depthwise_conv2d_forward_yields(const Context& context, const DepthwiseGeometry&, const Operand& x, const Operand&,
                                     const Operand&, Activation, const Operand&) {
  return library::own_products_suffice(context, x.dtype);
}

void depthwise_conv2d_backward_input(Context& context, const DepthwiseGeometry& g, const Operand& dz, const Operand& w,
                                     Gradient dx) {
  backward_input(context, "cudnn_depthwise_conv2d_backward_input", g, dz, w, dx);
}
bool depthwise_conv2d_backward_input_supports(const Context& context, const DepthwiseGeometry& g, const Operand& dz,
                                              const Operand& w, Gradient dx) {
  return plan_for(context, convolution_backward_input_graph(context, g, dz, w, dx)) != nullptr;
}
bool depthwise_conv2d_backward_input_yields(const Context& context, const DepthwiseGeometry&, const Operand& dz,
                                            const Operand&, Gradient) {
  return library::own_products_suffice(context, dz.dtype);
}

void depthwise_conv2d_backward_weight(Context& context, const DepthwiseGeometry& g, const Operand& x, const Operand& dz,
                                      Gradient dw) {
  const Convolution c(g);
  const auto plan = plan_for(context, convolution_backward_weight_graph(context, c, x, dz, dw));
  const Tensor to = Tensor::empty(filter_shape(c.geometry), DType::f32, context.device);
  run(context, "cudnn_depthwise_conv2d_backward_weight", *plan, {dz.data, x.data, to.raw()});
  kernels::cuda::copy(context, Operand(to), as_filter(c, dw.to), 1, dw.accumulate);
}
bool depthwise_conv2d_backward_weight_supports(const Context& context, const DepthwiseGeometry& g, const Operand& x,
                                               const Operand& dz, Gradient dw) {
  return plan_for(context, convolution_backward_weight_graph(context, g, x, dz, dw)) != nullptr;
}
bool depthwise_conv2d_backward_weight_yields(const Context& context, const DepthwiseGeometry&, const Operand& x,
                                             const Operand&, Gradient) {
  return library::own_products_suffice(context, x.dtype);
}

}  // namespace graft::kernels::cudnn
