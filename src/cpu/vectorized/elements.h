#pragma once

#include <cstring>

#include "cpu/vectorized/lanes.h"

// How elements are multiplied: kDepth neighbours at once, as `factor` repeats them in all lanes and a vector of kVector
// weights holds them for 16 columns. kRows times kVectors sums stay in registers beside weights and a factor.
namespace graft::kernels::vectorized {
namespace {

template <class T>
struct Element;

template <>
struct Element<float> {
  using Vector = Lanes;
  static constexpr std::int64_t kDepth = 1, kVector = kVectorColumns;
#ifdef __AVX512F__
  static constexpr int kRows = 12, kVectors = 2;
#else
  static constexpr int kRows = 6, kVectors = 1;
#endif

  static Vector weights(const float* at) { return load(at); }
  static Vector factor(const float* at) { return all(*at); }
  static Vector last_factor(const float* at) { return factor(at); }
  static Lanes multiply_add(Vector a, Vector b, Lanes sum) { return add_product(a, b, sum); }
  static void put(float* at, Mask mask, Lanes v, bool streams) { streams ? stream(at, v) : store(at, mask, v); }
  static Lanes round(Lanes v) { return v; }
};

#ifdef __AVX512BF16__
GRAFT_LANES __m256i rounded(Lanes v) { return (__m256i)_mm512_cvtneps_pbh(v); }

/// to[2 i], to[2 i + 1] = rounded lanes i of both.
GRAFT_LANES void store_pairs(Half* to, Lanes first, Lanes second) {
  const __m512i low = _mm512_cvtepu16_epi32(rounded(first)), high = _mm512_cvtepu16_epi32(rounded(second));
  _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

template <>
struct Element<Half> {
  using Vector = __m512bh;
  static constexpr std::int64_t kDepth = 2, kVector = 2 * kVectorColumns;
  static constexpr int kRows = 12, kVectors = 2;

  static Vector weights(const Half* at) { return (__m512bh)_mm512_loadu_si512(at); }
  static Vector factor(const Half* at) {
    int pair;
    std::memcpy(&pair, at, sizeof(pair));
    return (__m512bh)_mm512_set1_epi32(pair);
  }
  static Vector last_factor(const Half* at) { return (__m512bh)_mm512_set1_epi32(*at); }  // nothing follows it
  static Lanes multiply_add(Vector a, Vector b, Lanes sum) { return _mm512_dpbf16_ps(sum, a, b); }
  static void put(Half* at, Mask mask, Lanes v, bool streams) {
    if (streams)
      _mm256_stream_si256(reinterpret_cast<__m256i*>(at), rounded(v));
    else
      _mm256_mask_storeu_epi16(at, mask, rounded(v));
  }
  static Lanes round(Lanes v) { return widened(rounded(v)); }
};
#elif !defined(__AVX512F__)
GRAFT_LANES void store_pairs(Half* to, Lanes first, Lanes second) {
  const __m256i low = rounded(first), high = rounded(second);
  const __m256i quarters[2] = {_mm256_unpacklo_epi16(low, high), _mm256_unpackhi_epi16(low, high)};
  auto* at = reinterpret_cast<__m256i*>(to);
  _mm256_storeu_si256(at, _mm256_permute2x128_si256(quarters[0], quarters[1], 0x20));
  _mm256_storeu_si256(at + 1, _mm256_permute2x128_si256(quarters[0], quarters[1], 0x31));
}

// Widened to f32, both of a pair one after the other.
template <>
struct Element<Half> {
  struct Vector {
    Lanes first, second;
  };
  static constexpr std::int64_t kDepth = 2, kVector = 2 * kVectorColumns;
  static constexpr int kRows = 4, kVectors = 1;

  static __m256 first_of(__m256i pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)); }
  static __m256 second_of(__m256i pairs) {
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000))));
  }
  static Vector weights(const Half* at) {
    const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)),
                  high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + kVectorColumns));
    return {{first_of(low), first_of(high)}, {second_of(low), second_of(high)}};
  }
  static Vector repeated(__m256i pairs) {
    const __m256 first = first_of(pairs), second = second_of(pairs);
    return {{first, first}, {second, second}};
  }
  static Vector factor(const Half* at) {
    int pair;
    std::memcpy(&pair, at, sizeof(pair));
    return repeated(_mm256_set1_epi32(pair));
  }
  static Vector last_factor(const Half* at) { return repeated(_mm256_set1_epi32(*at)); }
  static Lanes multiply_add(Vector a, Vector b, Lanes sum) {
    return add_product(a.second, b.second, add_product(a.first, b.first, sum));
  }
  static void put(Half* at, Mask mask, Lanes v, bool streams) {
    const __m256i halves = rounded(v);
    auto* to = reinterpret_cast<__m256i*>(at);
    if (streams) return _mm256_stream_si256(to, halves);
    if (mask.count >= kVectorColumns) return _mm256_storeu_si256(to, halves);
    Half lanes[kVectorColumns];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), halves);
    for (std::int64_t i = 0; i < mask.count; ++i) at[i] = lanes[i];
  }
  static Lanes round(Lanes v) { return widened(rounded(v)); }
};
#endif

}  // namespace
}  // namespace graft::kernels::vectorized
