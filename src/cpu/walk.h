#pragma once

#include "core/parallel.h"
#include "kernels/strided.h"

namespace graft::cpu {

/// K strided operands of one shape, walked together in the order of their elements. Axes of extent 1 are dropped and
/// neighbouring axes that lie one after the other in every operand are joined, so that the innermost loop is as long as
/// memory allows: equal dense shapes become one loop, `[N, H, W, C]` beside `[C]` becomes two.
template <std::size_t K>
class Walk {
 public:
  using Offsets = std::array<Index, K>;

  explicit Walk(const std::array<const Strided*, K>& operands) {
    const Shape& shape = operands[0]->shape;
    const int last = shape.rank() - 1;
    bool apart = false;  // a single channel of wider rows: its axis stays, so that the innermost stride is 1
    for (const Strided* operand : operands)
      apart = apart || (last > 0 && shape[last] == 1 && operand->stride(last - 1) > 1);
    for (int axis = last; axis >= 0; --axis) {
      if (shape[axis] == 1 && !(apart && axis == last)) continue;
      Offsets strides;
      for (std::size_t k = 0; k < K; ++k) strides[k] = operands[k]->stride(axis);
      const auto outer = static_cast<std::size_t>(rank_) - 1;
      bool joined = rank_ > 0;
      for (std::size_t k = 0; joined && k < K; ++k) joined = strides[k] == strides_[outer][k] * extents_[outer];
      if (joined) {
        extents_[outer] *= shape[axis];
      } else {
        extents_[static_cast<std::size_t>(rank_)] = shape[axis];
        strides_[static_cast<std::size_t>(rank_++)] = strides;
      }
    }
    if (rank_ == 0) extents_[static_cast<std::size_t>(rank_++)] = 1;
  }

  /// Extent and strides of the innermost axis, and of the outermost one.
  Index inner_extent() const { return extents_[0]; }
  const Offsets& inner_strides() const { return strides_[0]; }
  Index outer_extent() const { return extents_[static_cast<std::size_t>(rank_ - 1)]; }
  const Offsets& outer_strides() const { return strides_[static_cast<std::size_t>(rank_ - 1)]; }
  Index elements() const {
    Index product = 1;
    for (int i = 0; i < rank_; ++i) product *= extents_[static_cast<std::size_t>(i)];
    return product;
  }

  /// Calls body(offsets, count) for each run of elements along the innermost axis, from element `begin` to `end`.
  template <class Body>
  void runs(Index begin, Index end, const Body& body) const {
    std::array<Index, Shape::kMaxRank> position{};
    Offsets offsets{};
    Index rest = begin;
    for (std::size_t i = 0; i < static_cast<std::size_t>(rank_) && begin < end; ++i) {
      position[i] = rest % extents_[i];
      rest /= extents_[i];
      for (std::size_t k = 0; k < K; ++k) offsets[k] += position[i] * strides_[i][k];
    }
    for (Index at = begin; at < end;) {
      const Index count = std::min(end - at, extents_[0] - position[0]);
      body(offsets, count);
      at += count;
      position[0] += count;
      for (std::size_t k = 0; k < K; ++k) offsets[k] += count * strides_[0][k];
      for (std::size_t i = 0; i + 1 < static_cast<std::size_t>(rank_) && position[i] == extents_[i]; ++i) {
        position[i] = 0;
        ++position[i + 1];
        for (std::size_t k = 0; k < K; ++k) offsets[k] += strides_[i + 1][k] - extents_[i] * strides_[i][k];
      }
    }
  }

 private:
  int rank_ = 0;
  std::array<Index, Shape::kMaxRank> extents_{};  // innermost first
  std::array<Offsets, Shape::kMaxRank> strides_{};
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
