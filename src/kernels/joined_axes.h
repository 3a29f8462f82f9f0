#pragma once

#include <array>

#include "kernels/strided.h"

namespace graft {

/// The axes of K strided operands of one shape. Axes of extent 1 are dropped and neighbouring axes that lie one after
/// the other in every operand are joined, so that the innermost axis is as long as memory allows: equal dense shapes
/// become one axis, `[N, H, W, C]` beside `[C]` becomes two.
template <std::size_t K>
struct JoinedAxes {
  using Offsets = std::array<Index, K>;

  int rank = 0;                                    ///< at least 1
  std::array<Index, Shape::kMaxRank> extents{};    ///< innermost first
  std::array<Offsets, Shape::kMaxRank> strides{};  ///< of each axis, for each operand

  explicit JoinedAxes(const std::array<const Strided*, K>& operands) {
    const Shape& shape = operands[0]->shape;
    const int last = shape.rank() - 1;
    bool apart = false;  // a single channel of wider rows: its axis stays, so that the innermost stride is 1
    for (const Strided* operand : operands)
      apart = apart || (last > 0 && shape[last] == 1 && operand->stride(last - 1) > 1);
    for (int axis = last; axis >= 0; --axis) {
      if (shape[axis] == 1 && !(apart && axis == last)) continue;
      Offsets of_axis;
      for (std::size_t k = 0; k < K; ++k) of_axis[k] = operands[k]->stride(axis);
      const auto outer = static_cast<std::size_t>(rank) - 1;
      bool joined = rank > 0;
      for (std::size_t k = 0; joined && k < K; ++k) joined = of_axis[k] == strides[outer][k] * extents[outer];
      if (joined) {
        extents[outer] *= shape[axis];
      } else {
        extents[static_cast<std::size_t>(rank)] = shape[axis];
        strides[static_cast<std::size_t>(rank++)] = of_axis;
      }
    }
    if (rank == 0) extents[static_cast<std::size_t>(rank++)] = 1;
  }

  constexpr Index elements() const {
    Index product = 1;
    for (int i = 0; i < rank; ++i) product *= extents[static_cast<std::size_t>(i)];
    return product;
  }

  /// Where element number `at`, in row-major order, lies in each operand.
  constexpr Offsets offsets(Index at) const {
    Offsets result{};
    for (std::size_t i = 0; i < static_cast<std::size_t>(rank); ++i) {
      const Index position = at % extents[i];
      at /= extents[i];
      for (std::size_t k = 0; k < K; ++k) result[k] += position * strides[i][k];
    }
    return result;
  }
};

}  // namespace graft
