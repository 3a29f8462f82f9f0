#include "graft/ops/reduce.h"

#include <fmt/ranges.h>

#include "kernels/reduce.h"
#include "kernels/strided.h"
#include "ops/support.h"

namespace graft::ops {
namespace {

// The result under the rank of x, extent 1 along the axes that are summed.
Shape kept_shape(const Reduce& op, const Shape& x) {
  const Slots axes = axis_set(op.name(), op.options.axes, x);
  Shape kept = x;
  for (int axis = 0; axis < x.rank(); ++axis) {
    if (op.options.axes.empty() || axes.has(axis)) kept = kept.with(axis, 1);
  }
  return kept;
}

double scale(const Reduce& op, const Shape& x) {
  if (op.function == Reduce::Function::sum) return 1;
  double count = 1;
  const Slots axes = axis_set(op.name(), op.options.axes, x);
  for (int axis = 0; axis < x.rank(); ++axis) {
    if (op.options.axes.empty() || axes.has(axis)) count *= static_cast<double>(x[axis]);
  }
  return 1 / count;
}

Operand under_shape(const Operand& operand, const Shape& shape) { return {operand.data, shape, operand.dtype}; }

}  // namespace

std::string Reduce::attributes() const {
  std::string text = options.axes.empty() ? "all axes" : fmt::format("axes {}", fmt::join(options.axes, ","));
  return options.keep_dims ? text + ", kept" : text;
}

std::vector<Spec> Reduce::infer(std::span<const Spec> in) const {
  const Shape& x = in[0].shape;
  check(is_floating(in[0].dtype), "[{}] needs a floating type, got {}", name(), in[0].dtype);
  const Shape kept = kept_shape(*this, x);
  if (options.keep_dims) return {{kept, in[0].dtype}};
  const Slots axes = axis_set(name(), options.axes, x);
  std::vector<Index> extents;
  for (int axis = 0; axis < x.rank(); ++axis) {
    if (!options.axes.empty() && !axes.has(axis)) extents.push_back(x[axis]);
  }
  return {{Shape(std::span<const Index>(extents)), in[0].dtype}};
}

void Reduce::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  const Shape& x = in[0].shape;
  kernels::sum_to(context, in[0], scale(*this, x), {under_shape(out[0], kept_shape(*this, x)), false});
}

// Each element is counted once, so its gradient is that of the sum it went into, divided by the count for a mean.
void Reduce::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                      std::span<const Gradient> dx) const {
  if (!dx[0]) return;
  const Shape& x = saved.inputs[0].shape;
  const Strided repeated = Strided(under_shape(dy[0], kept_shape(*this, x))).broadcast(x);
  kernels::copy(context, repeated, dx[0].to, scale(*this, x), dx[0].accumulate);
}

double Reduce::operations(std::span<const Spec> in, std::span<const Spec>) const {
  return static_cast<double>(in[0].shape.elements());
}

Tensor sum(const Tensor& x, const ReduceOptions& options) {
  return autograd::apply(Reduce(Reduce::Function::sum, options), {x});
}
Tensor mean(const Tensor& x, const ReduceOptions& options) {
  return autograd::apply(Reduce(Reduce::Function::mean, options), {x});
}

}  // namespace graft::ops
