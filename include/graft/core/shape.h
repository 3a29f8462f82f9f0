#pragma once

#include <array>
#include <initializer_list>
#include <span>
#include <string>

#include "graft/core/dtype.h"

namespace graft {

/// The extents of a tensor, outermost first: `[N, H, W, C]` for images. At most eight axes; an extent may be zero. A
/// scalar has rank 0 and one element.
class Shape {
 public:
  static constexpr int kMaxRank = 8;

  Shape() = default;
  Shape(std::initializer_list<Index> extents) : Shape(std::span<const Index>(extents.begin(), extents.size())) {}
  explicit Shape(std::span<const Index> extents);

  int rank() const { return rank_; }
  /// Number of elements. Throws Error if it does not fit in 63 bits.
  Index elements() const;
  /// Extent along an axis; negative axes count from the end. Throws Error if there is no such axis.
  Index operator[](int axis) const { return extents_[static_cast<std::size_t>(normalize_axis(axis))]; }
  /// Maps a possibly negative axis to 0 .. rank-1. Throws Error if there is no such axis.
  int normalize_axis(int axis) const;
  /// A copy with one extent replaced.
  Shape with(int axis, Index extent) const;
  /// Another shape with as many elements, one extent of which may be -1 and is inferred. Throws Error if there is none.
  Shape reshaped(std::span<const Index> extents) const;
  /// The last extent, or 1 for a scalar: the channels of NHWC data.
  Index channels() const { return rank_ == 0 ? 1 : extents_[static_cast<std::size_t>(rank_ - 1)]; }
  /// elements() / channels(): how many rows of channels there are.
  Index rows() const;

  const Index* begin() const { return extents_.data(); }
  const Index* end() const { return extents_.data() + rank_; }
  friend bool operator==(const Shape& a, const Shape& b);

  /// `[8, 56, 56, 64]`.
  std::string to_string() const;

 private:
  std::array<Index, kMaxRank> extents_{};
  int rank_ = 0;
};

/// What is known of a value before it is computed.
struct Spec {
  Shape shape;
  DType dtype = DType::f32;

  friend bool operator==(const Spec&, const Spec&) = default;
};

}  // namespace graft
