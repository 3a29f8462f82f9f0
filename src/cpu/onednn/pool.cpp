#include "kernels/pool.h"

#include "cpu/onednn/engine.h"

namespace graft::kernels::onednn {
namespace {

using dnnl::algorithm;
using dnnl::prop_kind;

struct Plan {
  Step step;
  memory::desc x, y, positions;
  Reorder image;  // of dx: adds a gradient to what is there
};

PlanCache<Plan>& plans() {
  static PlanCache<Plan> cache;
  return cache;
}

struct Numbers {
  memory::dims strides, kernel, before, after;

  explicit Numbers(const WindowGeometry& g)
      : strides{g.stride_height, g.stride_width},
        kernel{g.kernel_height, g.kernel_width},
        before{g.pad_top, g.pad_left},
        after{g.pad_bottom, g.pad_right} {}
};

bool usable(const WindowGeometry& g, const Operand& x) {
  return computes(x.dtype) && x.elements() > 0 && g.dilation_height == 1 && g.dilation_width == 1;
}

dnnl::pooling_forward::primitive_desc forward_description(algorithm which, const WindowGeometry& g, prop_kind kind,
                                                          const memory::desc& x, const memory::desc& y) {
  const Numbers n(g);
  return {dnnl::pooling_forward::desc(kind, which, x, y, n.strides, n.kernel, n.before, n.after), attributes(),
          engine()};
}

// oneDNN 2.6 writes wrong positions for bf16 beside i32, which only windows of 256 and more positions have.
bool trusts(const Operand& x, const Operand& positions) {
  return x.dtype == DType::f32 || !positions || positions.dtype == DType::u8;
}

// `positions`, oneDNN's workspace, is absent of averages and of maxima that nobody will differentiate.
std::shared_ptr<const Plan> forward_plan(algorithm which, const WindowGeometry& g, const Operand& x, const Operand& y,
                                         const Operand& positions) {
  if (!usable(g, x) || !trusts(x, positions)) return nullptr;
  Key key{static_cast<Index>(which), 0};
  append(key, g);
  for (const Operand& operand : {x, y, positions}) append(key, operand);
  return plans().get(key, [&]() -> std::shared_ptr<const Plan> {
    const auto description = forward_description(
        which, g, positions ? prop_kind::forward_training : prop_kind::forward_inference, image(x), image(y));
    const memory::desc where = positions ? image(positions) : memory::desc();
    if (!is_fast(description) || (positions && description.workspace_desc() != where)) return nullptr;
    return std::make_shared<const Plan>(Plan{Step(description), image(x), image(y), where, {}});
  });
}

std::shared_ptr<const Plan> backward_plan(algorithm which, const WindowGeometry& g, const Operand& positions,
                                          const Operand& dy, const Gradient& dx) {
  if (!usable(g, dx.to) || !trusts(dy, positions)) return nullptr;
  Key key{static_cast<Index>(which), 1, dx.accumulate};
  append(key, g);
  for (const Operand& operand : {dx.to, dy, positions}) append(key, operand);
  return plans().get(key, [&]() -> std::shared_ptr<const Plan> {
    const Numbers n(g);
    const memory::desc to = image(dx.to), from = image(dy);
    const auto hint = forward_description(which, g, prop_kind::forward_training, to, from);
    const dnnl::pooling_backward::desc desc(which, to, from, n.strides, n.kernel, n.before, n.after);
    const dnnl::pooling_backward::primitive_desc description(desc, attributes(), engine(), hint);
    const memory::desc where = positions ? image(positions) : memory::desc();
    if (!is_fast(description) || (positions && description.workspace_desc() != where)) return nullptr;
    return std::make_shared<const Plan>(Plan{Step(description), to, from, where, Reorder(to, to, dx.accumulate)});
  });
}

void forward(const Plan& plan, const Operand& x, const Operand& y, const Operand& positions) {
  std::unordered_map<int, dnnl::memory> arguments{{DNNL_ARG_SRC, at(plan.x, x.data)},
                                                  {DNNL_ARG_DST, at(plan.y, y.data)}};
  if (positions) arguments.emplace(DNNL_ARG_WORKSPACE, at(plan.positions, positions.data));
  plan.step.run(std::move(arguments));
}

void backward(const Plan& plan, const Operand& positions, const Operand& dy, const Gradient& dx) {
  Tensor sum;
  const dnnl::memory to = plan.image.unpacked(dx.to.data, sum);
  std::unordered_map<int, dnnl::memory> arguments{{DNNL_ARG_DIFF_DST, at(plan.y, dy.data)}, {DNNL_ARG_DIFF_SRC, to}};
  if (positions) arguments.emplace(DNNL_ARG_WORKSPACE, at(plan.positions, positions.data));
  plan.step.run(std::move(arguments));
  plan.image.finish(to, dx.to.data);
}

constexpr algorithm kMean = algorithm::pooling_avg_exclude_padding;

}  // namespace

bool max_pool_forward_supports(const Context&, const WindowGeometry& g, const Operand& x, const Operand& y,
                               const Operand& positions) {
  return forward_plan(algorithm::pooling_max, g, x, y, positions) != nullptr;
}
void max_pool_forward(Context&, const WindowGeometry& g, const Operand& x, const Operand& y, const Operand& positions) {
  forward(*forward_plan(algorithm::pooling_max, g, x, y, positions), x, y, positions);
}
bool max_pool_backward_supports(const Context&, const WindowGeometry& g, const Operand& positions, const Operand& dy,
                                Gradient dx) {
  return backward_plan(algorithm::pooling_max, g, positions, dy, dx) != nullptr;
}
void max_pool_backward(Context&, const WindowGeometry& g, const Operand& positions, const Operand& dy, Gradient dx) {
  backward(*backward_plan(algorithm::pooling_max, g, positions, dy, dx), positions, dy, dx);
}
bool average_pool_forward_supports(const Context&, const WindowGeometry& g, const Operand& x, const Operand& y) {
  return forward_plan(kMean, g, x, y, {}) != nullptr;
}
void average_pool_forward(Context&, const WindowGeometry& g, const Operand& x, const Operand& y) {
  forward(*forward_plan(kMean, g, x, y, {}), x, y, {});
}
bool average_pool_backward_supports(const Context&, const WindowGeometry& g, const Operand& dy, Gradient dx) {
  return backward_plan(kMean, g, {}, dy, dx) != nullptr;
}
void average_pool_backward(Context&, const WindowGeometry& g, const Operand& dy, Gradient dx) {
  backward(*backward_plan(kMean, g, {}, dy, dx), {}, dy, dx);
}

}  // namespace graft::kernels::onednn
