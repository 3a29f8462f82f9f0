#pragma once

#include "cpu/vectorized/lanes_support.h"

// A vector is two registers.
namespace graft::kernels::vectorized {
namespace {

struct Lanes {
  __m256 low, high;
};

struct Mask {
  std::int64_t count;  ///< of the lanes that are in it, the first ones; 16 and more are all
};

[[maybe_unused]] constexpr Mask kAllLanes{kVectorColumns};

constexpr int kRegisters = 8;  // that hold Lanes

GRAFT_LANES Mask first_lanes(std::int64_t count) { return {count}; }

GRAFT_LANES Lanes operator+(Lanes a, Lanes b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
GRAFT_LANES Lanes operator-(Lanes a, Lanes b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
GRAFT_LANES Lanes operator*(Lanes a, Lanes b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }

GRAFT_LANES Lanes all(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
GRAFT_LANES Lanes zeros() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
GRAFT_LANES Lanes load(const float* at) { return {_mm256_loadu_ps(at), _mm256_loadu_ps(at + 8)}; }
GRAFT_LANES Lanes load(Mask mask, const float* at) {
  if (mask.count >= kVectorColumns) return load(at);
  const __m256i count = _mm256_set1_epi32(static_cast<int>(mask.count));
  return {_mm256_maskload_ps(at, _mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))),
          _mm256_maskload_ps(at + 8, _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)))};
}
GRAFT_LANES void store(float* to, Lanes v) {
  _mm256_storeu_ps(to, v.low);
  _mm256_storeu_ps(to + 8, v.high);
}
// Through memory: a masked store takes tens of cycles on many processors.
GRAFT_LANES void store(float* to, Mask mask, Lanes v) {
  if (mask.count >= kVectorColumns) return store(to, v);
  float lanes[kVectorColumns];
  store(lanes, v);
  for (std::int64_t i = 0; i < mask.count; ++i) to[i] = lanes[i];
}
GRAFT_LANES void stream(float* to, Lanes v) {
  _mm256_stream_ps(to, v.low);
  _mm256_stream_ps(to + 8, v.high);
}

GRAFT_LANES Lanes add_product(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
GRAFT_LANES Lanes subtract_product(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fnmadd_ps(a.low, b.low, c.low), _mm256_fnmadd_ps(a.high, b.high, c.high)};
}
GRAFT_LANES Lanes least_of(Lanes a, Lanes b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
GRAFT_LANES Lanes most_of(Lanes a, Lanes b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
GRAFT_LANES Lanes where_between(Lanes low, Lanes x, Lanes high, Lanes v) {
  const auto half = [](__m256 least, __m256 number, __m256 most, __m256 value) {
    return _mm256_and_ps(
        value, _mm256_and_ps(_mm256_cmp_ps(number, least, _CMP_GT_OQ), _mm256_cmp_ps(number, most, _CMP_LT_OQ)));
  };
  return {half(low.low, x.low, high.low, v.low), half(low.high, x.high, high.high, v.high)};
}
GRAFT_LANES float sum_of(Lanes v) {
  const __m256 eight = _mm256_add_ps(v.low, v.high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// bf16 is the upper half of an f32.
GRAFT_LANES Lanes widened(__m256i halves) {
  const auto upper = [](__m128i eight) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(eight), 16));
  };
  return {upper(_mm256_castsi256_si128(halves)), upper(_mm256_extracti128_si256(halves, 1))};
}
GRAFT_LANES Lanes load(Mask mask, const Half* at) {
  if (mask.count >= kVectorColumns) return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  Half halves[kVectorColumns] = {};
  for (std::int64_t i = 0; i < mask.count; ++i) halves[i] = at[i];
  return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves)));
}
/// Rounded to the nearest, of two to the even one; a NaN to a quiet one.
GRAFT_LANES __m256i rounded(Lanes v) {
  const auto upper = [](__m256 numbers) {
    const __m256i bits = _mm256_castps_si256(numbers);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i nearest = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(numbers, numbers, _CMP_UNORD_Q));
    return _mm256_srli_epi32(_mm256_blendv_epi8(nearest, quiet, is_nan), 16);
  };
  // packus takes from the registers' halves in turns.
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(upper(v.low), upper(v.high)), 0xd8);
}

// 8 x 8 numbers: pairs of rows are interleaved by one and by two numbers, then by halves of registers.
GRAFT_LANES void transpose(__m256 (&r)[8]) {
  __m256 t[8];
  unrolled<4>([&](auto i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  });
  unrolled<2>([&](auto i) {  // r[4 i + j]: in each half h, column 4 h + j of rows 4 i .. 4 i + 3
    r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  });
  unrolled<4>([&](auto j) {
    t[j] = _mm256_permute2f128_ps(r[j], r[4 + j], 0x20);
    t[4 + j] = _mm256_permute2f128_ps(r[j], r[4 + j], 0x31);
  });
  unrolled<8>([&](auto i) { r[i] = t[i]; });
}
// 16 x 16 numbers, in quarters.
GRAFT_LANES void transpose(Lanes (&r)[16]) {
  __m256 quarters[2][2][8];  // of rows, of columns
  unrolled<8>([&](auto i) {
    unrolled<2>([&](auto half) {
      quarters[half][0][i] = r[8 * half + i].low;
      quarters[half][1][i] = r[8 * half + i].high;
    });
  });
  unrolled<2>([&](auto half) {
    transpose(quarters[half][0]);
    transpose(quarters[half][1]);
  });
  unrolled<8>([&](auto i) {
    unrolled<2>([&](auto half) { r[8 * half + i] = {quarters[0][half][i], quarters[1][half][i]}; });
  });
}

}  // namespace
}  // namespace graft::kernels::vectorized
