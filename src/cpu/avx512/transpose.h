#pragma once

#include "cpu/avx512/lanes.h"

namespace graft::kernels::avx512 {
namespace {

// 16 x 16 numbers, in four steps: pairs of rows are interleaved by one and by two numbers, then by quarters of vectors.
[[maybe_unused, gnu::always_inline]] inline void transpose(__m512 (&r)[16]) {
  __m512 t[16];
  unrolled<8>([&](auto i) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  });
  const auto pairs_low = [](__m512 a, __m512 b) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
  const auto pairs_high = [](__m512 a, __m512 b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
  unrolled<4>([&](auto i) {  // r[4 i + j]: in each quarter q, column 4 q + j of rows 4 i .. 4 i + 3
    r[4 * i] = pairs_low(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = pairs_high(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = pairs_low(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = pairs_high(t[4 * i + 1], t[4 * i + 3]);
  });
  unrolled<4>([&](auto j) {
    const __m512 a = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x88), b = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x88);
    const __m512 c = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xdd), d = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xdd);
    t[j] = _mm512_shuffle_f32x4(a, b, 0x88);
    t[8 + j] = _mm512_shuffle_f32x4(a, b, 0xdd);
    t[4 + j] = _mm512_shuffle_f32x4(c, d, 0x88);
    t[12 + j] = _mm512_shuffle_f32x4(c, d, 0xdd);
  });
  unrolled<16>([&](auto i) { r[i] = t[i]; });
}

}  // namespace
}  // namespace graft::kernels::avx512
