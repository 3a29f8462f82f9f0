#include "cpu/onednn/convolution.h"

namespace graft::kernels::onednn {
namespace {

using dnnl::algorithm;
using dnnl::prop_kind;

// A primitive, and the way of the weights (of their gradient) into (out of) the layout that it chose.
struct Plan {
  Step step;
  memory::desc x, y, bias;
  Reorder weights;
  Reorder image;  // only of dx: adds a gradient to what is there
};

enum Kind : Index { kForward, kBackwardInput, kBackwardWeight };

// The weights' dimensions as oneDNN has them: [groups,] out, in, height, width.
memory::dims weight_dims(const Convolution& c) {
  const ConvGeometry& g = c.geometry;
  if (g.groups == 1 && !c.depthwise) return {g.out_channels, g.channels, g.kernel_height, g.kernel_width};
  return {g.groups, g.out_group(), g.in_group(), g.kernel_height, g.kernel_width};
}

// Where they lie in graft's layout.
memory::desc weights_as_given(const Convolution& c, memory::data_type type) {
  const ConvGeometry& g = c.geometry;
  const Index in = g.in_group(), kh = g.kernel_height, kw = g.kernel_width;
  if (c.depthwise)
    return {weight_dims(c), type, {g.out_group(), 1, g.out_channels, kw * g.out_channels, g.out_channels}};
  if (g.groups == 1) return {weight_dims(c), type, {kh * kw * in, 1, kw * in, in}};
  return {weight_dims(c), type, {g.out_group() * kh * kw * in, kh * kw * in, 1, kw * in, in}};
}

memory::desc weights_as_wanted(const Convolution& c, memory::data_type type) {
  return {weight_dims(c), type, memory::format_tag::any};
}

struct Numbers {
  memory::dims strides, dilations, before, after;

  explicit Numbers(const ConvGeometry& g)
      : strides{g.stride_height, g.stride_width},
        dilations{g.dilation_height - 1, g.dilation_width - 1},
        before{g.pad_top, g.pad_left},
        after{g.pad_bottom, g.pad_right} {}
};

// The forward description; backward primitives want it as a hint.
dnnl::convolution_forward::primitive_desc forward_description(const Convolution& c, const memory::desc& x,
                                                              const memory::desc& bias, const memory::desc& y,
                                                              const dnnl::post_ops& ops = {}) {
  const Numbers n(c.geometry);
  const dnnl::convolution_forward::desc desc(prop_kind::forward_training, algorithm::convolution_direct, x,
                                             weights_as_wanted(c, x.data_type()), bias, y, n.strides, n.dilations,
                                             n.before, n.after);
  return {desc, attributes(ops), engine()};
}

PlanCache<Plan>& plans() {
  static PlanCache<Plan> cache;
  return cache;
}

Key key(Kind kind, const Convolution& c, const Operand& image, const Operand& weights, const Operand& pixels) {
  Key key{kind, c.depthwise, c.geometry.out_channels, c.geometry.groups};
  append(key, c.geometry);
  append(key, image);
  append(key, weights);
  append(key, pixels);
  return key;
}

bool usable(const Operand& image, const Operand& pixels) {
  return computes(image.dtype) && image.elements() > 0 && pixels.elements() > 0;
}

std::shared_ptr<const Plan> forward_plan(const Convolution& c, const Operand& x, const Operand& w, const Operand& bias,
                                         const Operand& residual, Activation activation, const Operand& y) {
  if (!usable(x, y)) return nullptr;
  Key id = key(kForward, c, x, w, y);
  append(id, bias);
  append(id, residual);
  const bool in_place = residual && residual.data == y.data;
  id.push_back(in_place);
  id.push_back(static_cast<Index>(activation));
  return plans().get(id, [&]() -> std::shared_ptr<const Plan> {
    dnnl::post_ops ops;
    // Read from its own memory, or, where the result overwrites the residual, added to what is there: a kernel may keep
    // partial sums in the result.
    if (in_place)
      ops.append_sum(1);
    else if (residual)
      ops.append_binary(algorithm::binary_add, image(residual));
    if (!append_activation(ops, activation)) return nullptr;
    const memory::desc bias_desc = bias ? dense({c.geometry.out_channels}, type(bias.dtype)) : memory::desc();
    const auto description = forward_description(c, image(x), bias_desc, image(y), ops);
    if (!is_fast(description)) return nullptr;
    return std::make_shared<const Plan>(
        Plan{.step = Step(description),
             .x = image(x),
             .y = image(y),
             .bias = bias_desc,
             .weights = Reorder(weights_as_given(c, type(w.dtype)), description.weights_desc()),
             .image = {}});
  });
}

std::shared_ptr<const Plan> backward_input_plan(const Convolution& c, const Operand& dz, const Operand& w,
                                                const Gradient& dx) {
  if (!usable(dx.to, dz)) return nullptr;
  Key id = key(kBackwardInput, c, dx.to, w, dz);
  id.push_back(dx.accumulate);
  return plans().get(id, [&]() -> std::shared_ptr<const Plan> {
    const Numbers n(c.geometry);
    const memory::desc to = image(dx.to), from = image(dz);
    const dnnl::convolution_backward_data::desc desc(algorithm::convolution_direct, to,
                                                     weights_as_wanted(c, to.data_type()), from, n.strides, n.dilations,
                                                     n.before, n.after);
    const dnnl::convolution_backward_data::primitive_desc description(desc, attributes(), engine(),
                                                                      forward_description(c, to, {}, from));
    if (!is_fast(description)) return nullptr;
    return std::make_shared<const Plan>(
        Plan{.step = Step(description),
             .x = to,
             .y = from,
             .bias = {},
             .weights = Reorder(weights_as_given(c, type(w.dtype)), description.weights_desc()),
             .image = Reorder(to, to, dx.accumulate)});
  });
}

std::shared_ptr<const Plan> backward_weight_plan(const Convolution& c, const Operand& x, const Operand& dz,
                                                 const Gradient& dw) {
  if (!usable(x, dz)) return nullptr;
  // Of bf16 images that are narrower than the stride oneDNN 2.6 reads what it never wrote.
  const ConvGeometry& g = c.geometry;
  if (is_half(x.dtype) && (g.height < g.stride_height || g.width < g.stride_width)) return nullptr;
  Key id = key(kBackwardWeight, c, x, dw.to, dz);
  id.push_back(dw.accumulate);
  return plans().get(id, [&]() -> std::shared_ptr<const Plan> {
    const Numbers n(c.geometry);
    const memory::desc from = image(x), slopes = image(dz);
    const memory::desc wanted =
        weights_as_wanted(c, memory::data_type::f32);  // sums over all pixels stay exact until they are added
    const dnnl::convolution_backward_weights::desc desc(algorithm::convolution_direct, from, wanted, slopes, n.strides,
                                                        n.dilations, n.before, n.after);
    const dnnl::convolution_backward_weights::primitive_desc description(desc, attributes(), engine(),
                                                                         forward_description(c, from, {}, slopes));
    if (!is_fast(description)) return nullptr;
    return std::make_shared<const Plan>(
        Plan{.step = Step(description),
             .x = from,
             .y = slopes,
             .bias = {},
             .weights = Reorder(description.diff_weights_desc(), weights_as_given(c, type(dw.to.dtype)), dw.accumulate),
             .image = {}});
  });
}

}  // namespace

bool supports_forward(const Convolution& c, const Operand& x, const Operand& w, const Operand& bias,
                      const Operand& residual, Activation activation, const Operand& y) {
  return forward_plan(c, x, w, bias, residual, activation, y) != nullptr;
}

void forward(const Convolution& c, const Operand& x, const Operand& w, const Operand& bias, const Operand& residual,
             Activation activation, const Operand& y) {
  const auto plan = forward_plan(c, x, w, bias, residual, activation, y);
  std::shared_ptr<const Storage> weights;
  std::unordered_map<int, dnnl::memory> arguments{{DNNL_ARG_SRC, at(plan->x, x.data)},
                                                  {DNNL_ARG_WEIGHTS, plan->weights.packed(w, weights)},
                                                  {DNNL_ARG_DST, at(plan->y, y.data)}};
  if (bias) arguments.emplace(DNNL_ARG_BIAS, at(plan->bias, bias.data));
  if (residual && residual.data != y.data)
    arguments.emplace(DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, at(image(residual), residual.data));
  plan->step.run(std::move(arguments));
}

bool supports_backward_input(const Convolution& c, const Operand& dz, const Operand& w, Gradient dx) {
  return backward_input_plan(c, dz, w, dx) != nullptr;
}

void backward_input(const Convolution& c, const Operand& dz, const Operand& w, Gradient dx) {
  const auto plan = backward_input_plan(c, dz, w, dx);
  std::shared_ptr<const Storage> weights;
  Tensor sum;
  const dnnl::memory to = plan->image.unpacked(dx.to.data, sum);
  plan->step.run({{DNNL_ARG_DIFF_DST, at(plan->y, dz.data)},
                  {DNNL_ARG_WEIGHTS, plan->weights.packed(w, weights)},
                  {DNNL_ARG_DIFF_SRC, to}});
  plan->image.finish(to, dx.to.data);
}

bool supports_backward_weight(const Convolution& c, const Operand& x, const Operand& dz, Gradient dw) {
  return backward_weight_plan(c, x, dz, dw) != nullptr;
}

void backward_weight(const Convolution& c, const Operand& x, const Operand& dz, Gradient dw) {
  const auto plan = backward_weight_plan(c, x, dz, dw);
  Tensor sum;
  const dnnl::memory to = plan->weights.unpacked(dw.to.data, sum);
  plan->step.run(
      {{DNNL_ARG_SRC, at(plan->x, x.data)}, {DNNL_ARG_DIFF_DST, at(plan->y, dz.data)}, {DNNL_ARG_DIFF_WEIGHTS, to}});
  plan->weights.finish(to, dw.to.data);
}

}  // namespace graft::kernels::onednn
