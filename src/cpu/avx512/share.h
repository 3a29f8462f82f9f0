#pragma once

#include "cpu/avx512/grid.h"

namespace graft::kernels::avx512 {

/// Where part i of n begins if `count` things are shared out evenly.
inline Index part(Index count, Index n, Index i) { return count * i / n; }

struct Source {
  const float* data;
  Index pitch, channels;
};

/// Where sums go, and what is done to them first.
struct Result {
  const float* bias;
  const float* residual;
  Index residual_pitch;
  float* data;
  Index pitch, columns;
  Activation activation;

  Clamp clamp() const {
    return activation == Activation::relu    ? Clamp::relu
           : activation == Activation::relu6 ? Clamp::relu6
                                             : Clamp::none;
  }
  /// Those of its columns that belong to a group.
  Result group(Index first, Index count) const {
    Result part = *this;
    if (bias != nullptr) part.bias += first;
    if (residual != nullptr) part.residual += first;
    part.data += first;
    part.columns = count;
    return part;
  }
  /// True if `rows` of them are more than the caches keep until somebody reads them, and can be written around them.
  bool streams(Index rows) const {
    constexpr Index kLeastBytes = 24 << 20;
    return rows * columns * static_cast<Index>(sizeof(float)) >= kLeastBytes && columns % kVectorColumns == 0 &&
           pitch % kVectorColumns == 0 && reinterpret_cast<std::uintptr_t>(data) % 64 == 0 && !activates_after();
  }
  /// True for an activation that is applied to what was written.
  bool activates_after() const { return clamp() == Clamp::none && activation != Activation::linear; }
};

}  // namespace graft::kernels::avx512
