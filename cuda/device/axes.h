#pragma once

#include <limits>
#include <optional>

#include "device/divider.h"
#include "device/numeric.h"
#include "kernels/joined_axes.h"

namespace graft::GRAFT_TARGET {

/// JoinedAxes whose offsets a kernel finds by multiplications: dividing 64-bit numbers would take longer than moving an
/// element.
template <std::size_t K>
class DividedAxes {
 public:
  explicit DividedAxes(const JoinedAxes<K>& axes) : axes_(axes) {
    for (std::size_t i = 0; i < axes.extents.size(); ++i)
      extents_[i] = Divider(axes.extents[i] > 0 && axes.extents[i] < kMost ? axes.extents[i] : kMost);
  }

  Index elements() const { return axes_.elements(); }

  /// Where element number `at`, in row-major order, lies in each operand.
  __device__ std::array<Index, K> offsets(Index at) const {
    if (at >= kMost) return axes_.offsets(at);
    std::array<Index, K> result{};
    auto rest = static_cast<int>(at);
    for (int i = 0; i < axes_.rank; ++i) {
      const auto axis = static_cast<std::size_t>(i);
      const int outer = i + 1 < axes_.rank ? extents_[axis].quotient(rest) : 0;
      const int position = outer == 0 ? rest : extents_[axis].remainder(rest, outer);
      for (std::size_t k = 0; k < K; ++k) result[k] += position * axes_.strides[axis][k];
      rest = outer;
    }
    return result;
  }

 private:
  static constexpr Index kMost = std::numeric_limits<int>::max();

  JoinedAxes<K> axes_;
  std::array<Divider, Shape::kMaxRank> extents_;
};

/// The axes of vectors of `n` neighbours, if all operands consist of such: strides still count elements.
template <std::size_t K>
std::optional<JoinedAxes<K>> in_vectors(JoinedAxes<K> axes, Index n) {
  if (axes.extents[0] % n != 0) return std::nullopt;
  for (std::size_t k = 0; k < K; ++k) {
    if (axes.strides[0][k] != 1 && axes.extents[0] != 1) return std::nullopt;
    for (std::size_t i = 1; i < static_cast<std::size_t>(axes.rank); ++i)
      if (axes.strides[i][k] % n != 0) return std::nullopt;
  }
  axes.extents[0] /= n;
  axes.strides[0].fill(n);
  return axes;
}

/// Calls body(std::integral_constant N, DividedAxes) for operands of element type T: with N neighbours that one
/// instruction moves as the elements of the axes, where all operands consist of such, else with N = 1.
template <class T, std::size_t K, class Body>
void with_axes(const std::array<const Strided*, K>& operands, const Body& body) {
  const JoinedAxes<K> axes(operands);
  const auto wide = in_vectors(axes, kVector<T>);
  bool fits = wide.has_value();
  for (const Strided* operand : operands) fits = fits && aligned<T>(operand->data, 0, kVector<T>);
  with_vectors<T>(fits, [&](auto vector) { body(vector, DividedAxes<K>(decltype(vector)::value > 1 ? *wide : axes)); });
}

}  // namespace graft::GRAFT_TARGET
