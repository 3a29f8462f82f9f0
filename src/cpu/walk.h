#pragma once

#include "core/parallel.h"
#include "kernels/joined_axes.h"

namespace graft::cpu {

/// K strided operands of one shape, walked together in the order of their elements.
template <std::size_t K>
class Walk {
 public:
  using Offsets = typename JoinedAxes<K>::Offsets;

  explicit Walk(const std::array<const Strided*, K>& operands) : axes_(operands) {}

  /// Extent and strides of the innermost axis, and of the outermost one.
  Index inner_extent() const { return axes_.extents[0]; }
  const Offsets& inner_strides() const { return axes_.strides[0]; }
  Index outer_extent() const { return axes_.extents[static_cast<std::size_t>(axes_.rank - 1)]; }
  const Offsets& outer_strides() const { return axes_.strides[static_cast<std::size_t>(axes_.rank - 1)]; }
  Index elements() const { return axes_.elements(); }

  /// Calls body(offsets, count) for each run of elements along the innermost axis, from element `begin` to `end`.
  template <class Body>
  void runs(Index begin, Index end, const Body& body) const {
    std::array<Index, Shape::kMaxRank> position{};
    Offsets offsets{};
    Index rest = begin;
    for (std::size_t i = 0; i < static_cast<std::size_t>(axes_.rank) && begin < end; ++i) {
      position[i] = rest % axes_.extents[i];
      rest /= axes_.extents[i];
      for (std::size_t k = 0; k < K; ++k) offsets[k] += position[i] * axes_.strides[i][k];
    }
    for (Index at = begin; at < end;) {
      const Index count = std::min(end - at, axes_.extents[0] - position[0]);
      body(offsets, count);
      at += count;
      position[0] += count;
      for (std::size_t k = 0; k < K; ++k) offsets[k] += count * axes_.strides[0][k];
      for (std::size_t i = 0; i + 1 < static_cast<std::size_t>(axes_.rank) && position[i] == axes_.extents[i]; ++i) {
        position[i] = 0;
        ++position[i + 1];
        for (std::size_t k = 0; k < K; ++k)
          offsets[k] += axes_.strides[i + 1][k] - axes_.extents[i] * axes_.strides[i][k];
      }
    }
  }

 private:
  JoinedAxes<K> axes_;
};

/// Calls body(std::integral_constant) with a stride that is known to be 0 or 1 as a constant, so that the compiler can
/// vectorise what it strides over.
template <class Body>
void with_unit_stride(Index stride, const Body& body) {
  if (stride == 0)
    body(std::integral_constant<Index, 0>{});
  else
    body(std::integral_constant<Index, 1>{});
}

}  // namespace graft::cpu
