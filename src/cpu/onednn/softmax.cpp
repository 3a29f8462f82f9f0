#include "kernels/softmax.h"

#include "cpu/onednn/engine.h"

namespace graft::kernels::onednn {
namespace {

using dnnl::algorithm;
using dnnl::prop_kind;

struct Plan {
  Step step;
  memory::desc x, y;
  Reorder sum;  // adds a gradient to what is there
};

PlanCache<Plan>& plans() {
  static PlanCache<Plan> cache;
  return cache;
}

memory::desc rows(const Operand& x) { return {{x.shape.rows(), x.shape.channels()}, type(x.dtype), {x.pitch, 1}}; }

Key key(Index kind, const Operand& x, const Operand& y) {
  Key key{kind, x.shape.rows(), x.shape.channels()};
  append(key, x);
  append(key, y);
  return key;
}

dnnl::softmax_v2_forward::primitive_desc forward_description(const memory::desc& x, const memory::desc& y) {
  return {dnnl::softmax_v2_forward::desc(prop_kind::forward_training, algorithm::softmax_accurate, x, y, 1),
          attributes(), engine()};
}

// The logarithm is left to graft: oneDNN 2.6 approximates it to 1.4e-6, log(1) included, which a loss near zero would
// show.
std::shared_ptr<const Plan> forward_plan(bool log, const Operand& x, const Operand& y) {
  if (log || !computes(x.dtype) || x.elements() == 0) return nullptr;
  return plans().get(key(0, x, y), [&]() -> std::shared_ptr<const Plan> {
    const auto description = forward_description(rows(x), rows(y));
    if (!is_fast(description)) return nullptr;
    return std::make_shared<const Plan>(Plan{Step(description), rows(x), rows(y), {}});
  });
}

std::shared_ptr<const Plan> backward_plan(bool log, const Operand& y, const Operand& dy, const Gradient& dx) {
  if (log || !computes(y.dtype) || y.elements() == 0 || y.pitch != dy.pitch || y.pitch != dx.to.pitch) return nullptr;
  Key id = key(1, y, dy);
  id.push_back(dx.accumulate);
  return plans().get(id, [&]() -> std::shared_ptr<const Plan> {
    const memory::desc desc = rows(y);
    const dnnl::softmax_v2_backward::desc backward(algorithm::softmax_accurate, desc, desc, desc, 1);
    const dnnl::softmax_v2_backward::primitive_desc description(backward, attributes(), engine(),
                                                                forward_description(desc, desc));
    if (!is_fast(description)) return nullptr;
    return std::make_shared<const Plan>(Plan{Step(description), desc, desc, Reorder(desc, desc, dx.accumulate)});
  });
}

}  // namespace

bool softmax_forward_supports(const Context&, bool log, const Operand& x, const Operand& y) {
  return forward_plan(log, x, y) != nullptr;
}
void softmax_forward(Context&, bool log, const Operand& x, const Operand& y) {
  const auto plan = forward_plan(log, x, y);
  plan->step.run({{DNNL_ARG_SRC, at(plan->x, x.data)}, {DNNL_ARG_DST, at(plan->y, y.data)}});
}

bool softmax_backward_supports(const Context&, bool log, const Operand& y, const Operand& dy, Gradient dx) {
  return backward_plan(log, y, dy, dx) != nullptr;
}
void softmax_backward(Context&, bool log, const Operand& y, const Operand& dy, Gradient dx) {
  const auto plan = backward_plan(log, y, dy, dx);
  Tensor buffer;
  const dnnl::memory to = plan->sum.unpacked(dx.to.data, buffer);
  plan->step.run(
      {{DNNL_ARG_DST, at(plan->y, y.data)}, {DNNL_ARG_DIFF_DST, at(plan->y, dy.data)}, {DNNL_ARG_DIFF_SRC, to}});
  plan->sum.finish(to, dx.to.data);
}

}  // namespace graft::kernels::onednn
