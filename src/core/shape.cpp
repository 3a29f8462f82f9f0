#include "graft/core/shape.h"

#include <algorithm>
#include <vector>

#include "core/format.h"

namespace graft {

Shape::Shape(std::span<const Index> extents) {
  if (extents.size() > static_cast<std::size_t>(kMaxRank)) {
    throw Error(fmt::format("[shape] at most {} axes, got {}", kMaxRank, extents.size()));
  }
  for (const Index extent : extents) {
    if (extent < 0) throw Error(fmt::format("[shape] an extent is negative: {}", extent));
    extents_[static_cast<std::size_t>(rank_++)] = extent;
  }
}

Index Shape::elements() const {
  if (std::find(begin(), end(), Index{0}) != end()) return 0;
  Index product = 1;
  for (const Index extent : *this) {
    if (__builtin_mul_overflow(product, extent, &product)) {
      throw Error(fmt::format("[shape] {} has more elements than can be counted", to_string()));
    }
  }
  return product;
}

Shape Shape::reshaped(std::span<const Index> extents) const {
  std::vector<Index> wanted(extents.begin(), extents.end());
  const auto unknown = std::find(wanted.begin(), wanted.end(), Index{-1});
  if (unknown != wanted.end()) {
    *unknown = 1;
    const Index rest = Shape(std::span<const Index>(wanted)).elements();
    check(rest > 0 && elements() % rest == 0, "[reshape] {} cannot become [{}]: no extent in place of -1 fits", *this,
          fmt::join(extents, ", "));
    *unknown = elements() / rest;
  }
  const Shape target{std::span<const Index>(wanted)};
  check(target.elements() == elements(), "[reshape] {} has {} elements, {} has {}", *this, elements(), target,
        target.elements());
  return target;
}

Index Shape::rows() const {
  Index product = 1;
  for (int axis = 0; axis + 1 < rank_; ++axis) product *= extents_[static_cast<std::size_t>(axis)];
  return product;
}

int Shape::normalize_axis(int axis) const {
  const int normalized = axis < 0 ? axis + rank_ : axis;
  if (normalized < 0 || normalized >= rank_) throw Error(fmt::format("[shape] {} has no axis {}", to_string(), axis));
  return normalized;
}

Shape Shape::with(int axis, Index extent) const {
  Shape copy = *this;
  copy.extents_[static_cast<std::size_t>(normalize_axis(axis))] = extent;
  return copy;
}

bool operator==(const Shape& a, const Shape& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

std::string Shape::to_string() const { return fmt::format("[{}]", fmt::join(begin(), end(), ", ")); }

}  // namespace graft
