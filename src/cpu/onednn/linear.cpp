#include "kernels/linear.h"

#include "cpu/onednn/engine.h"

namespace graft::kernels::onednn {
namespace {

using dnnl::prop_kind;

struct Plan {
  Step step;
  memory::desc x, y, bias;
  Reorder weights;  // into the layout that the primitive chose, or of their gradient out of it
  Reorder image;    // only of dx: adds a gradient to what is there
};

PlanCache<Plan>& plans() {
  static PlanCache<Plan> cache;
  return cache;
}

memory::desc rows(const Operand& x) { return {{x.shape.rows(), x.shape.channels()}, type(x.dtype), {x.pitch, 1}}; }

bool usable(const Operand& x, const Operand& w) { return computes(x.dtype) && x.elements() > 0 && w.elements() > 0; }

Key key(Index kind, const Operand& x, const Operand& w, const Operand& y) {
  Key key{kind, x.shape.rows(), w.shape[0], w.shape[1]};
  for (const Operand& operand : {x, w, y}) append(key, operand);
  return key;
}

// Calls make(weights) with the weights as they are if they have the type that the primitive computes in, then with a
// layout of oneDNN's choice: reordering a large matrix costs more than it saves for the few rows of a classifier.
template <class Make>
std::shared_ptr<const Plan> with_layouts(const memory::desc& given, memory::data_type computed, const Make& make) {
  if (given.data_type() == computed) {
    try {
      if (auto plan = make(given)) return plan;
    } catch (const dnnl::error&) {  // the next layout may do
    }
  }
  return make(memory::desc(given.dims(), computed, memory::format_tag::any));
}

dnnl::inner_product_forward::primitive_desc forward_description(const memory::desc& x, const memory::desc& w,
                                                                const memory::desc& bias, const memory::desc& y,
                                                                const dnnl::post_ops& ops = {}) {
  return {dnnl::inner_product_forward::desc(prop_kind::forward_training, x, w, bias, y), attributes(ops), engine()};
}

std::shared_ptr<const Plan> forward_plan(const Operand& x, const Operand& w, const Operand& bias, Activation activation,
                                         const Operand& y) {
  if (!usable(x, w)) return nullptr;
  Key id = key(0, x, w, y);
  append(id, bias);
  id.push_back(static_cast<Index>(activation));
  return plans().get(id, [&]() -> std::shared_ptr<const Plan> {
    dnnl::post_ops ops;
    if (!append_activation(ops, activation)) return nullptr;
    const memory::desc given = dense({w.shape[0], w.shape[1]}, type(w.dtype));
    const memory::desc bias_desc = bias ? dense({w.shape[0]}, type(bias.dtype)) : memory::desc();
    return with_layouts(given, type(x.dtype), [&](const memory::desc& weights) -> std::shared_ptr<const Plan> {
      const auto description = forward_description(rows(x), weights, bias_desc, rows(y), ops);
      if (!is_fast(description)) return nullptr;
      return std::make_shared<const Plan>(
          Plan{Step(description), rows(x), rows(y), bias_desc, Reorder(given, description.weights_desc()), {}});
    });
  });
}

std::shared_ptr<const Plan> backward_input_plan(const Operand& dz, const Operand& w, const Gradient& dx) {
  if (!usable(dx.to, w)) return nullptr;
  Key id = key(1, dx.to, w, dz);
  id.push_back(dx.accumulate);
  return plans().get(id, [&]() -> std::shared_ptr<const Plan> {
    const memory::desc given = dense({w.shape[0], w.shape[1]}, type(w.dtype)), to = rows(dx.to);
    return with_layouts(given, type(dz.dtype), [&](const memory::desc& weights) -> std::shared_ptr<const Plan> {
      const auto hint = forward_description(to, weights, {}, rows(dz));
      const dnnl::inner_product_backward_data::primitive_desc description(
          dnnl::inner_product_backward_data::desc(to, weights, rows(dz)), attributes(), engine(), hint);
      if (!is_fast(description)) return nullptr;
      return std::make_shared<const Plan>(Plan{Step(description),
                                               to,
                                               rows(dz),
                                               {},
                                               Reorder(given, description.weights_desc()),
                                               Reorder(to, to, dx.accumulate)});
    });
  });
}

std::shared_ptr<const Plan> backward_weight_plan(const Operand& x, const Operand& dz, const Gradient& dw) {
  if (!usable(x, dw.to)) return nullptr;
  Key id = key(2, x, dw.to, dz);
  id.push_back(dw.accumulate);
  return plans().get(id, [&]() -> std::shared_ptr<const Plan> {
    const memory::desc given = dense({dw.to.shape[0], dw.to.shape[1]}, type(dw.to.dtype));
    return with_layouts(given, memory::data_type::f32, [&](const memory::desc& weights) -> std::shared_ptr<const Plan> {
      const auto hint = forward_description(
          rows(x), memory::desc(weights.dims(), type(x.dtype), memory::format_tag::any), {}, rows(dz));
      const dnnl::inner_product_backward_weights::primitive_desc description(
          dnnl::inner_product_backward_weights::desc(rows(x), weights, rows(dz)), attributes(), engine(), hint);
      if (!is_fast(description)) return nullptr;
      return std::make_shared<const Plan>(Plan{Step(description),
                                               rows(x),
                                               rows(dz),
                                               {},
                                               Reorder(description.diff_weights_desc(), given, dw.accumulate),
                                               {}});
    });
  });
}

}  // namespace

bool linear_forward_supports(const Context&, const Operand& x, const Operand& w, const Operand& bias,
                             Activation activation, const Operand& y) {
  return forward_plan(x, w, bias, activation, y) != nullptr;
}
void linear_forward(Context&, const Operand& x, const Operand& w, const Operand& bias, Activation activation,
                    const Operand& y) {
  const auto plan = forward_plan(x, w, bias, activation, y);
  std::shared_ptr<const Storage> weights;
  std::unordered_map<int, dnnl::memory> arguments{{DNNL_ARG_SRC, at(plan->x, x.data)},
                                                  {DNNL_ARG_WEIGHTS, plan->weights.packed(w, weights)},
                                                  {DNNL_ARG_DST, at(plan->y, y.data)}};
  if (bias) arguments.emplace(DNNL_ARG_BIAS, at(plan->bias, bias.data));
  plan->step.run(std::move(arguments));
}

bool linear_backward_input_supports(const Context&, const Operand& dz, const Operand& w, Gradient dx) {
  return backward_input_plan(dz, w, dx) != nullptr;
}
void linear_backward_input(Context&, const Operand& dz, const Operand& w, Gradient dx) {
  const auto plan = backward_input_plan(dz, w, dx);
  std::shared_ptr<const Storage> weights;
  Tensor sum;
  const dnnl::memory to = plan->image.unpacked(dx.to.data, sum);
  plan->step.run({{DNNL_ARG_DIFF_DST, at(plan->y, dz.data)},
                  {DNNL_ARG_WEIGHTS, plan->weights.packed(w, weights)},
                  {DNNL_ARG_DIFF_SRC, to}});
  plan->image.finish(to, dx.to.data);
}

bool linear_backward_weight_supports(const Context&, const Operand& x, const Operand& dz, Gradient dw) {
  return backward_weight_plan(x, dz, dw) != nullptr;
}
void linear_backward_weight(Context&, const Operand& x, const Operand& dz, Gradient dw) {
  const auto plan = backward_weight_plan(x, dz, dw);
  Tensor sum;
  const dnnl::memory to = plan->weights.unpacked(dw.to.data, sum);
  plan->step.run(
      {{DNNL_ARG_SRC, at(plan->x, x.data)}, {DNNL_ARG_DIFF_DST, at(plan->y, dz.data)}, {DNNL_ARG_DIFF_WEIGHTS, to}});
  plan->weights.finish(to, dw.to.data);
}

}  // namespace graft::kernels::onednn
