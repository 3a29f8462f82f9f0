#pragma once

#include <array>

#include "kernels/kernel.h"

namespace graft {

/// An operand whose axes may lie anywhere in memory: a transpose, a slice or a broadcast of another, without a copy.
/// Strides count elements.
struct Strided {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  std::array<Index, Shape::kMaxRank> strides{};

  Strided() = default;
  Strided(const Operand& operand)
      : data(operand.data), dtype(operand.dtype), shape(operand.shape) {  // NOLINT: every operand is a strided one
    Index stride = 1;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      strides[static_cast<std::size_t>(axis)] = stride;
      stride = axis == shape.rank() - 1 ? operand.pitch : stride * shape[axis];
    }
  }

  Index stride(int axis) const { return strides[static_cast<std::size_t>(axis)]; }

  /// Axis i of the result is axis `axes[i]` of this.
  Strided permuted(std::span<const int> axes) const {
    Strided result = *this;
    for (int axis = 0; axis < shape.rank(); ++axis) {
      const int from = axes[static_cast<std::size_t>(axis)];
      result.shape = result.shape.with(axis, shape[from]);
      result.strides[static_cast<std::size_t>(axis)] = stride(from);
    }
    return result;
  }

  /// The elements from `start` on, as many along each axis as `size` says.
  Strided sliced(std::span<const Index> start, const Shape& size) const {
    Strided result = *this;
    result.shape = size;
    Index offset = 0;
    for (int axis = 0; axis < shape.rank(); ++axis) offset += start[static_cast<std::size_t>(axis)] * stride(axis);
    result.data = static_cast<std::byte*>(data) + static_cast<std::size_t>(offset) * size_of(dtype);
    return result;
  }

  /// Repeats axes of extent 1, and new ones in front, as often as `target` says. The shape must broadcast to `target`.
  Strided broadcast(const Shape& target) const {
    Strided result;
    result.data = data;
    result.dtype = dtype;
    result.shape = target;
    const int added = target.rank() - shape.rank();
    for (int axis = added; axis < target.rank(); ++axis) {
      if (shape[axis - added] == target[axis]) result.strides[static_cast<std::size_t>(axis)] = stride(axis - added);
    }
    return result;
  }
};

namespace kernels {
namespace cpu {
void copy(Context&, const Strided& from, const Strided& to, double scale, bool accumulate);
void fill(Context&, const Operand& y, double value);
}  // namespace cpu
GRAFT_DECLARE_GPU(copy)
GRAFT_DECLARE_GPU(fill)

/// to (+)= scale * from, same shape and type: transposes, slices, parts of a concatenation, broadcasts. `to` must not
/// repeat an element.
inline constexpr Kernel<const Strided&, const Strided&, double, bool> copy{
    "copy", {.native = {cpu::copy}, .library = {}}, GRAFT_GPU(copy)};
/// Every element `value`.
inline constexpr Kernel<const Operand&, double> fill{"fill", {.native = {cpu::fill}, .library = {}}, GRAFT_GPU(fill)};

}  // namespace kernels
}  // namespace graft
