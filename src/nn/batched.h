#pragma once

#include <vector>

#include "graft/core/shape.h"

namespace graft::nn {

/// The shape of `batch` examples of this one: `[N, ...]`.
inline Shape batched(const Shape& example, Index batch) {
  std::vector<Index> extents{batch};
  extents.insert(extents.end(), example.begin(), example.end());
  return Shape{std::span<const Index>(extents)};
}

}  // namespace graft::nn
