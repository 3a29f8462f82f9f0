#pragma once

#include "cpu/vectorized/lanes_support.h"

// A vector is a register.
namespace graft::kernels::vectorized {
namespace {

using Lanes = __m512;
using Mask = __mmask16;

[[maybe_unused]] constexpr Mask kAllLanes = 0xffff;

constexpr int kRegisters = 32;  // that hold Lanes

/// The first `count` lanes; all of them for more, none for less than one.
GRAFT_LANES Mask first_lanes(std::int64_t count) {
  if (count >= kVectorColumns) return kAllLanes;
  return static_cast<Mask>((1u << (count > 0 ? count : 0)) - 1);
}

GRAFT_LANES Lanes all(float value) { return _mm512_set1_ps(value); }
GRAFT_LANES Lanes zeros() { return _mm512_setzero_ps(); }
GRAFT_LANES Lanes load(const float* at) { return _mm512_loadu_ps(at); }
GRAFT_LANES Lanes load(Mask mask, const float* at) { return _mm512_maskz_loadu_ps(mask, at); }
GRAFT_LANES void store(float* to, Lanes v) { _mm512_storeu_ps(to, v); }
GRAFT_LANES void store(float* to, Mask mask, Lanes v) { _mm512_mask_storeu_ps(to, mask, v); }
GRAFT_LANES void stream(float* to, Lanes v) { _mm512_stream_ps(to, v); }

/// a b + c, and c - a b.
GRAFT_LANES Lanes add_product(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a, b, c); }
GRAFT_LANES Lanes subtract_product(Lanes a, Lanes b, Lanes c) { return _mm512_fnmadd_ps(a, b, c); }
/// Of a NaN in the second one, that.
GRAFT_LANES Lanes least_of(Lanes a, Lanes b) { return _mm512_min_ps(a, b); }
GRAFT_LANES Lanes most_of(Lanes a, Lanes b) { return _mm512_max_ps(a, b); }
/// v where low < x < high, and 0.
GRAFT_LANES Lanes where_between(Lanes low, Lanes x, Lanes high, Lanes v) {
  return _mm512_maskz_mov_ps(
      _mm512_kand(_mm512_cmp_ps_mask(x, low, _CMP_GT_OQ), _mm512_cmp_ps_mask(x, high, _CMP_LT_OQ)), v);
}
GRAFT_LANES float sum_of(Lanes v) { return _mm512_reduce_add_ps(v); }

GRAFT_LANES Lanes widened(__m256i halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
GRAFT_LANES Lanes load(Mask mask, const Half* at) { return widened(_mm256_maskz_loadu_epi16(mask, at)); }

// 16 x 16 numbers, in four steps: pairs of rows are interleaved by one and by two numbers, then by quarters of vectors.
GRAFT_LANES void transpose(Lanes (&r)[16]) {
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
}  // namespace graft::kernels::vectorized
