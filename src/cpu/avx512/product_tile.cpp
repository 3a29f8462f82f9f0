#include "cpu/avx512/lanes.h"

namespace graft::kernels::avx512 {
namespace {

template <int kRows, int kVectors>
void product(const ProductTile& t) {
  __m512 sums[kRows][kVectors];
  unrolled<kRows>([&](auto r) { unrolled<kVectors>([&](auto v) { sums[r][v] = _mm512_setzero_ps(); }); });
  if (!t.streams) {
    unrolled<kRows>([&](auto r) {  // where the sums will go comes from memory while they are made
      const float* y = t.y + t.positions[r] * t.y_pitch;
      unrolled<kVectors>([&](auto v) { __builtin_prefetch(y + v * kVectorColumns, 1); });
    });
  }
  const float* weights = t.weights;
  for (std::int64_t term = 0; term < t.terms; ++term) {
    const float* const* rows = t.rows + term * t.row_stride;
    const float* x[kRows];
    unrolled<kRows>([&](auto r) { x[r] = rows[r]; });
    for (std::int64_t k = 0; k < t.depth;) {
      if (t.ahead > 0) unrolled<kRows>([&](auto r) { __builtin_prefetch(rows[r + t.ahead] + k); });
      const std::int64_t end = t.depth - k < kVectorColumns ? t.depth : k + kVectorColumns;
      for (; k < end; ++k) {
        __m512 w[kVectors];
        unrolled<kVectors>([&](auto v) { w[v] = _mm512_loadu_ps(weights + v * kVectorColumns); });
        weights += kVectors * kVectorColumns;
        unrolled<kRows>([&](auto r) {
          const __m512 factor = _mm512_set1_ps(x[r][k]);
          unrolled<kVectors>([&](auto v) { sums[r][v] = _mm512_fmadd_ps(factor, w[v], sums[r][v]); });
        });
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
      const float* residual = t.residual + t.positions[r] * t.residual_pitch;
      unrolled<kVectors>([&](auto v) {
        sums[r][v] = _mm512_add_ps(sums[r][v], _mm512_maskz_loadu_ps(masks[v], residual + v * kVectorColumns));
      });
    });
  }
  const Bounds bounds(t.clamp);
  unrolled<kRows>([&](auto r) {
    float* y = t.y + t.positions[r] * t.y_pitch;
    unrolled<kVectors>([&](auto v) { write(y + v * kVectorColumns, masks[v], bounds(sums[r][v]), t.streams); });
  });
}

using Product = void (*)(const ProductTile&);
template <int kVectors, int... rows>
constexpr Product pick(std::int64_t count, std::integer_sequence<int, rows...>) {
  constexpr Product kProducts[] = {product<rows + 1, kVectors>...};
  return kProducts[count - 1];
}

}  // namespace

void product_tile(const ProductTile& tile) {
  constexpr std::make_integer_sequence<int, kTileRows> kCounts;
  (tile.columns > kVectorColumns ? pick<2>(tile.count, kCounts) : pick<1>(tile.count, kCounts))(tile);
}

void finish_streams() { _mm_sfence(); }

}  // namespace graft::kernels::avx512
