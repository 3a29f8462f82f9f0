#pragma once

#include <limits>
#include <utility>

#include <immintrin.h>

#include "cpu/avx512/tiles.h"

// What the AVX-512 translation units share, each with a copy of its own.
namespace graft::kernels::avx512 {
namespace {

/// Calls body(std::integral_constant<int, i>) for i below n. A plain loop may stay one, and sums that it indexes leave
/// their registers then.
template <int n, class Body>
[[gnu::always_inline]] inline void unrolled(const Body& body) {
  [&]<int... i>(std::integer_sequence<int, i...>) __attribute__((always_inline)) {
    (body(std::integral_constant<int, i>{}), ...);
  }
  (std::make_integer_sequence<int, n>{});
}

/// The first `count` of 16 lanes; all of them for more, none for less than one.
[[maybe_unused, gnu::always_inline]] inline __mmask16 first_lanes(std::int64_t count) {
  if (count >= kVectorColumns) return __mmask16(0xffff);
  return static_cast<__mmask16>((1u << (count > 0 ? count : 0)) - 1);
}

/// Bounds of what is written. The operand that may be a NaN comes second in both, so that it stays one.
struct Bounds {
  __m512 least, most;

  explicit Bounds(Clamp clamp)
      : least(_mm512_set1_ps(clamp == Clamp::none ? -std::numeric_limits<float>::infinity() : 0.f)),
        most(_mm512_set1_ps(clamp == Clamp::relu6 ? 6.f : std::numeric_limits<float>::infinity())) {}
  [[gnu::always_inline]] __m512 operator()(__m512 v) const { return _mm512_min_ps(most, _mm512_max_ps(least, v)); }
};

[[maybe_unused, gnu::always_inline]] inline __m512 widened(__m256i halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
[[maybe_unused, gnu::always_inline]] inline __m512 load_half(__mmask16 mask, const Half* at) {
  return widened(_mm256_maskz_loadu_epi16(mask, at));
}

[[maybe_unused, gnu::always_inline]] inline void write(float* to, __mmask16 mask, __m512 v, bool streams) {
  if (streams)
    _mm512_stream_ps(to, v);
  else
    _mm512_mask_storeu_ps(to, mask, v);
}

}  // namespace
}  // namespace graft::kernels::avx512
