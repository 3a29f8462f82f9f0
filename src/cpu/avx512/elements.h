#pragma once

#include <cstring>

#include "cpu/avx512/lanes.h"

namespace graft::kernels::avx512 {
namespace {

template <class T>
struct Element;

template <>
struct Element<float> {
  using Vector = __m512;
  static constexpr std::int64_t kDepth = 1, kVector = kVectorColumns;

  static Vector weights(const float* at) { return _mm512_loadu_ps(at); }
  static Vector factor(const float* at) { return _mm512_set1_ps(*at); }
  static Vector last_factor(const float* at) { return factor(at); }
  static __m512 add_product(__m512 sum, Vector a, Vector b) { return _mm512_fmadd_ps(a, b, sum); }
  static __m512 load(__mmask16 mask, const float* at) { return _mm512_maskz_loadu_ps(mask, at); }
  static void store(float* at, __mmask16 mask, __m512 v, bool streams) { write(at, mask, v, streams); }
  static __m512 round(__m512 v) { return v; }
};

#ifdef __AVX512BF16__
template <>
struct Element<Half> {
  using Vector = __m512bh;
  static constexpr std::int64_t kDepth = 2, kVector = 2 * kVectorColumns;

  static Vector weights(const Half* at) { return (__m512bh)_mm512_loadu_si512(at); }
  static Vector factor(const Half* at) {
    int pair;
    std::memcpy(&pair, at, sizeof(pair));
    return (__m512bh)_mm512_set1_epi32(pair);
  }
  static Vector last_factor(const Half* at) { return (__m512bh)_mm512_set1_epi32(*at); }  // nothing follows it
  static __m512 add_product(__m512 sum, Vector a, Vector b) { return _mm512_dpbf16_ps(sum, a, b); }
  static __m512 load(__mmask16 mask, const Half* at) { return load_half(mask, at); }
  static void store(Half* at, __mmask16 mask, __m512 v, bool streams) {
    const __m256i halves = (__m256i)_mm512_cvtneps_pbh(v);
    if (streams)
      _mm256_stream_si256(reinterpret_cast<__m256i*>(at), halves);
    else
      _mm256_mask_storeu_epi16(at, mask, halves);
  }
  static __m512 round(__m512 v) { return widened((__m256i)_mm512_cvtneps_pbh(v)); }
};
#endif

}  // namespace
}  // namespace graft::kernels::avx512
