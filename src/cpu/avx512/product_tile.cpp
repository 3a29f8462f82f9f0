#include "cpu/avx512/tiles.h"

#include <immintrin.h>

namespace graft::kernels::avx512 {
namespace {

template <int kVectors>
struct Columns {
  __mmask16 masks[kVectors];

  explicit Columns(std::int64_t count) {
    for (int v = 0; v < kVectors; ++v) {
      const std::int64_t left = count - v * kVectorColumns;
      masks[v] = left >= kVectorColumns ? __mmask16(0xffff) : static_cast<__mmask16>((1u << (left > 0 ? left : 0)) - 1);
    }
  }
};

__m512 clamped(Clamp clamp, __m512 v) {  // the operand that is a NaN comes second, so that it stays one
  if (clamp == Clamp::none) return v;
  v = _mm512_max_ps(_mm512_setzero_ps(), v);
  return clamp == Clamp::relu ? v : _mm512_min_ps(_mm512_set1_ps(6), v);
}

template <int kRows, int kVectors>
void product(const ProductTile& t) {
  __m512 sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_setzero_ps();
  const float* weights = t.weights;
  for (std::int64_t term = 0; term < t.terms; ++term) {
    const float* ends[kRows];  // counting up to zero from them takes one register less than a bound
    for (int r = 0; r < kRows; ++r) ends[r] = t.rows[term * t.row_stride + r] + t.depth;
    for (std::int64_t k = -t.depth; k < 0; ++k) {
      __m512 w[kVectors];
      for (int v = 0; v < kVectors; ++v) w[v] = _mm512_loadu_ps(weights + v * kVectorColumns);
      weights += kVectors * kVectorColumns;
      for (int r = 0; r < kRows; ++r) {
        const __m512 x = _mm512_set1_ps(ends[r][k]);
        for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_fmadd_ps(x, w[v], sums[r][v]);
      }
    }
  }
  const Columns<kVectors> columns(t.columns);
  for (int v = 0; v < kVectors; ++v) {
    const __mmask16 mask = columns.masks[v];
    const std::int64_t first = v * kVectorColumns;
    if (t.bias != nullptr) {
      const __m512 bias = _mm512_maskz_loadu_ps(mask, t.bias + first);
      for (int r = 0; r < kRows; ++r) sums[r][v] = _mm512_add_ps(sums[r][v], bias);
    }
    if (t.residual != nullptr) {
      for (int r = 0; r < kRows; ++r) {
        sums[r][v] = _mm512_add_ps(
            sums[r][v], _mm512_maskz_loadu_ps(mask, t.residual + t.positions[r] * t.residual_pitch + first));
      }
    }
    for (int r = 0; r < kRows; ++r)
      _mm512_mask_storeu_ps(t.y + t.positions[r] * t.y_pitch + first, mask, clamped(t.clamp, sums[r][v]));
  }
}

using Product = void (*)(const ProductTile&);
constexpr Product kWide[kTileRows] = {product<1, 2>, product<2, 2>, product<3, 2>,  product<4, 2>,
                                      product<5, 2>, product<6, 2>, product<7, 2>,  product<8, 2>,
                                      product<9, 2>, product<10, 2>, product<11, 2>, product<12, 2>};
constexpr Product kNarrow[kTileRows] = {product<1, 1>, product<2, 1>, product<3, 1>,  product<4, 1>,
                                        product<5, 1>, product<6, 1>, product<7, 1>,  product<8, 1>,
                                        product<9, 1>, product<10, 1>, product<11, 1>, product<12, 1>};

}  // namespace

void product_tile(const ProductTile& tile) {
  (tile.columns > kVectorColumns ? kWide : kNarrow)[tile.count - 1](tile);
}

}  // namespace graft::kernels::avx512
