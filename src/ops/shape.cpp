#include "graft/ops/shape.h"

#include <fmt/ranges.h>

#include "kernels/strided.h"
#include "ops/support.h"

// Reshaping moves nothing; everything else here is one strided copy, forward from x to y and backward from dy to dx.
namespace graft::ops {
namespace {

void copy(Context& context, const Strided& from, const Strided& to, bool accumulate = false) {
  kernels::copy(context, from, to, 1, accumulate);
}

std::vector<int> normalized(std::span<const int> axes, const Shape& shape) {
  std::vector<int> result;
  for (const int axis : axes) result.push_back(shape.normalize_axis(axis));
  return result;
}

// Where part `index` of a concatenation begins in the whole.
std::vector<Index> origin(std::span<const Operand> parts, std::size_t index, int axis) {
  std::vector<Index> start(static_cast<std::size_t>(parts[0].shape.rank()));
  for (std::size_t i = 0; i < index; ++i) start[static_cast<std::size_t>(axis)] += parts[i].shape[axis];
  return start;
}

std::vector<Index> filled(std::vector<Index> numbers, const Shape& shape, Index value) {
  numbers.resize(static_cast<std::size_t>(shape.rank()), value);
  return numbers;
}

}  // namespace

std::string Reshape::attributes() const { return fmt::format("to [{}]", fmt::join(extents, ", ")); }

std::vector<Spec> Reshape::infer(std::span<const Spec> in) const {
  return {{in[0].shape.reshaped(extents), in[0].dtype}};
}

void Reshape::forward(Context&, std::span<const Operand>, std::span<const Operand>) const {}

void Reshape::backward(Context& context, const Saved&, std::span<const Operand> dy,
                       std::span<const Gradient> dx) const {
  if (dx[0] && dx[0].to.data != dy[0].data)
    copy(context, Operand(dy[0].data, dx[0].to.shape, dy[0].dtype), dx[0].to, dx[0].accumulate);
}

std::string Permute::attributes() const { return fmt::format("axes {}", fmt::join(axes, ",")); }

std::vector<Spec> Permute::infer(std::span<const Spec> in) const {
  const Shape& x = in[0].shape;
  axis_set(name(), axes, x);
  check(static_cast<int>(axes.size()) == x.rank(), "[permute] {} has {} axes, got {}", x, x.rank(), axes.size());
  Shape y = x;
  for (std::size_t i = 0; i < axes.size(); ++i) y = y.with(static_cast<int>(i), x[axes[i]]);
  return {{y, in[0].dtype}};
}

void Permute::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  copy(context, Strided(in[0]).permuted(normalized(axes, in[0].shape)), out[0]);
}

void Permute::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                       std::span<const Gradient> dx) const {
  if (dx[0])
    copy(context, dy[0], Strided(dx[0].to).permuted(normalized(axes, saved.inputs[0].shape)), dx[0].accumulate);
}

std::string Concat::attributes() const { return fmt::format("axis {}", axis); }

std::vector<Spec> Concat::infer(std::span<const Spec> in) const {
  check(!in.empty() && in.size() <= 32, "[concat] joins 1 to 32 tensors, got {}", in.size());
  Spec y = in[0];
  const int at = y.shape.normalize_axis(axis);
  for (const Spec& part : in.subspan(1)) {
    const bool fits =
        part.dtype == y.dtype && part.shape.rank() == y.shape.rank() && part.shape.with(at, 0) == y.shape.with(at, 0);
    check(fits, "[concat] {} {} does not fit {} {} along axis {}", part.dtype, part.shape, in[0].dtype, in[0].shape,
          axis);
    y.shape = y.shape.with(at, y.shape[at] + part.shape[at]);
  }
  return {y};
}

void Concat::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  const int at = out[0].shape.normalize_axis(axis);
  for (std::size_t i = 0; i < in.size(); ++i) {
    const Strided to = Strided(out[0]).sliced(origin(in, i, at), in[i].shape);
    if (in[i].data != to.data) copy(context, in[i], to);  // a planner may have had the part computed there
  }
}

void Concat::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                      std::span<const Gradient> dx) const {
  const int at = dy[0].shape.normalize_axis(axis);
  for (std::size_t i = 0; i < dx.size(); ++i) {
    if (!dx[i]) continue;
    const Strided from = Strided(dy[0]).sliced(origin(saved.inputs, i, at), dx[i].to.shape);
    if (from.data != dx[i].to.data) copy(context, from, dx[i].to, dx[i].accumulate);
  }
}

std::string Slice::attributes() const {
  return fmt::format("start {}, size {}", fmt::join(start, ","), fmt::join(size, ","));
}

std::vector<Spec> Slice::infer(std::span<const Spec> in) const {
  const Shape& x = in[0].shape;
  const auto rank = static_cast<std::size_t>(x.rank());
  check(start.size() == size.size() && start.size() <= rank, "[slice] {} has {} axes, got {} starts and {} sizes", x,
        rank, start.size(), size.size());
  Shape y = x;
  for (std::size_t i = 0; i < start.size(); ++i) {
    const int axis = static_cast<int>(i);
    const Index extent = size[i] == -1 ? x[axis] - start[i] : size[i];
    check(start[i] >= 0 && extent >= 0 && extent <= x[axis] - start[i],
          "[slice] axis {} of {} has no {} elements from {} on", axis, x, size[i], start[i]);
    y = y.with(axis, extent);
  }
  return {{y, in[0].dtype}};
}

void Slice::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  copy(context, Strided(in[0]).sliced(filled(start, in[0].shape, 0), out[0].shape), out[0]);
}

void Slice::backward(Context& context, const Saved&, std::span<const Operand> dy, std::span<const Gradient> dx) const {
  if (!dx[0]) return;
  const Operand& to = dx[0].to;
  if (!dx[0].accumulate) kernels::fill(context, to, 0);
  copy(context, dy[0], Strided(to).sliced(filled(start, to.shape, 0), dy[0].shape), true);
}

std::string Pad::attributes() const {
  return fmt::format("before {}, after {}, value {}", fmt::join(options.before, ","), fmt::join(options.after, ","),
                     options.value);
}

std::vector<Spec> Pad::infer(std::span<const Spec> in) const {
  const Shape& x = in[0].shape;
  const auto rank = static_cast<std::size_t>(x.rank());
  check(options.before.size() == rank && options.after.size() == rank,
        "[pad] {} has {} axes, got {} numbers before and {} after", x, rank, options.before.size(),
        options.after.size());
  Shape y = x;
  for (std::size_t i = 0; i < rank; ++i) {
    check(options.before[i] >= 0 && options.after[i] >= 0, "[pad] cannot add {} and {} elements to axis {}",
          options.before[i], options.after[i], i);
    y = y.with(static_cast<int>(i), options.before[i] + x[static_cast<int>(i)] + options.after[i]);
  }
  return {{y, in[0].dtype}};
}

void Pad::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::fill(context, out[0], options.value);
  copy(context, in[0], Strided(out[0]).sliced(options.before, in[0].shape));
}

void Pad::backward(Context& context, const Saved&, std::span<const Operand> dy, std::span<const Gradient> dx) const {
  if (dx[0]) copy(context, Strided(dy[0]).sliced(options.before, dx[0].to.shape), dx[0].to, dx[0].accumulate);
}

std::string Cast::attributes() const { return fmt::format("to {}", dtype); }

std::vector<Spec> Cast::infer(std::span<const Spec> in) const { return {{in[0].shape, dtype}}; }

void Cast::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  kernels::cast(context, in[0], out[0], false);
}

void Cast::backward(Context& context, const Saved&, std::span<const Operand> dy, std::span<const Gradient> dx) const {
  if (dx[0]) kernels::cast(context, dy[0], dx[0].to, dx[0].accumulate);
}

Tensor reshape(const Tensor& x, std::vector<Index> extents) {
  return autograd::apply(Reshape(std::move(extents)), {x});
}
Tensor permute(const Tensor& x, std::vector<int> axes) { return autograd::apply(Permute(std::move(axes)), {x}); }

Tensor transpose(const Tensor& x, int a, int b) {
  const Shape& shape = x.shape();
  std::vector<int> axes(static_cast<std::size_t>(shape.rank()));
  for (std::size_t i = 0; i < axes.size(); ++i) axes[i] = static_cast<int>(i);
  std::swap(axes[static_cast<std::size_t>(shape.normalize_axis(a))],
            axes[static_cast<std::size_t>(shape.normalize_axis(b))]);
  return permute(x, std::move(axes));
}

Tensor concat(std::span<const Tensor> parts, int axis) {
  return autograd::apply(std::make_shared<const Concat>(axis), parts).front();
}
Tensor slice(const Tensor& x, std::vector<Index> start, std::vector<Index> size) {
  return autograd::apply(Slice(std::move(start), std::move(size)), {x});
}
Tensor pad(const Tensor& x, const PadOptions& options) { return autograd::apply(Pad(options), {x}); }
Tensor cast(const Tensor& x, DType dtype) { return autograd::apply(Cast(dtype), {x}); }

}  // namespace graft::ops
