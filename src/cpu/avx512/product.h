#pragma once

#include "cpu/avx512/lanes.h"

// The tile of a product for any type of elements. Element<T> says how they are multiplied: kDepth neighbours at once,
// as `factor` repeats them in all lanes and a vector of kVector weights holds them for 16 columns.
namespace graft::kernels::avx512 {
namespace {

template <class T, int kRows, int kVectors>
void product(const ProductTile<T>& t) {
  using Element = Element<T>;
  constexpr std::int64_t kLine = 64 / sizeof(T);  // numbers of a row that come from memory together
  __m512 sums[kRows][kVectors];
  unrolled<kRows>([&](auto r) { unrolled<kVectors>([&](auto v) { sums[r][v] = _mm512_setzero_ps(); }); });
  if (!t.streams) {
    unrolled<kRows>([&](auto r) {  // where the sums will go comes from memory while they are made
      const T* y = t.y + t.positions[r] * t.y_pitch;
      unrolled<kVectors>([&](auto v) { __builtin_prefetch(y + v * kVectorColumns, 1); });
    });
  }
  const T* weights = t.weights;
  for (std::int64_t term = 0; term < t.terms; ++term) {
    const T* const* rows = t.rows + term * t.row_stride;
    const T* x[kRows];
    unrolled<kRows>([&](auto r) { x[r] = rows[r]; });
    for (std::int64_t k = 0; k < t.depth;) {
      if (t.ahead > 0) unrolled<kRows>([&](auto r) { __builtin_prefetch(rows[r + t.ahead] + k); });
      const std::int64_t end = t.depth - k < kLine ? t.depth : k + kLine;
      const auto step = [&](const auto& factor) {
        typename Element::Vector w[kVectors];
        unrolled<kVectors>([&](auto v) { w[v] = Element::weights(weights + v * Element::kVector); });
        weights += kVectors * Element::kVector;
        unrolled<kRows>([&](auto r) {
          const typename Element::Vector f = factor(x[r] + k);
          unrolled<kVectors>([&](auto v) { sums[r][v] = Element::add_product(sums[r][v], f, w[v]); });
        });
      };
      for (; k + Element::kDepth <= end; k += Element::kDepth) step([](const T* at) { return Element::factor(at); });
      if (k < end) {
        step([](const T* at) { return Element::last_factor(at); });
        k = end;
      }
    }
  }
  __mmask16 masks[kVectors];
  unrolled<kVectors>([&](auto v) { masks[v] = first_lanes(t.columns - v * kVectorColumns); });
  if (t.bias != nullptr) {
    unrolled<kVectors>([&](auto v) {
      const __m512 bias = _mm512_maskz_loadu_ps(masks[v], t.bias + v * kVectorColumns);
      unrolled<kRows>([&](auto r) { sums[r][v] = _mm512_add_ps(sums[r][v], bias); });
    });
  }
  if (t.residual != nullptr) {
    unrolled<kRows>([&](auto r) {
      const T* residual = t.residual + t.positions[r] * t.residual_pitch;
      unrolled<kVectors>([&](auto v) {
        sums[r][v] = _mm512_add_ps(sums[r][v], Element::load(masks[v], residual + v * kVectorColumns));
      });
    });
  }
  const Bounds bounds(t.clamp);
  unrolled<kRows>([&](auto r) {
    T* y = t.y + t.positions[r] * t.y_pitch;
    unrolled<kVectors>(
        [&](auto v) { Element::store(y + v * kVectorColumns, masks[v], bounds(sums[r][v]), t.streams); });
  });
}

template <class T, int kVectors, int... rows>
auto pick(std::int64_t count, std::integer_sequence<int, rows...>) {
  constexpr void (*kProducts[])(const ProductTile<T>&) = {product<T, rows + 1, kVectors>...};
  return kProducts[count - 1];
}

template <class T>
void run_product(const ProductTile<T>& tile) {
  constexpr std::make_integer_sequence<int, kTileRows> kCounts;
  (tile.columns > kVectorColumns ? pick<T, 2>(tile.count, kCounts) : pick<T, 1>(tile.count, kCounts))(tile);
}

}  // namespace
}  // namespace graft::kernels::avx512
