#pragma once

// Sixteen numbers side by side, as one register or two of the instruction set that a translation unit is compiled for.
// Each of these units has a copy of its own.
#ifdef __AVX512F__
#include "cpu/vectorized/lanes_avx512.h"
#else
#include "cpu/vectorized/lanes_avx2.h"
#endif

namespace graft::kernels::vectorized {
namespace {

/// Bounds of what is written. A NaN stays one.
struct Bounds {
  Lanes least, most;

  explicit Bounds(Clamp clamp)
      : least(all(clamp == Clamp::none ? -__builtin_inff() : 0.f)),
        most(all(clamp == Clamp::relu6 ? 6.f : __builtin_inff())) {}
  [[gnu::always_inline]] Lanes operator()(Lanes v) const { return least_of(most, most_of(least, v)); }
  /// The lanes of `slopes` whose y is strictly inside, and 0.
  [[gnu::always_inline]] Lanes let_through(Lanes slopes, Lanes y) const {
    return where_between(least, y, most, slopes);
  }
};

}  // namespace
}  // namespace graft::kernels::vectorized
