#include <immintrin.h>

#include "cpu/avx512/tiles.h"

namespace graft::kernels::avx512 {
namespace {

template <int kRows, int kVectors>
void gradient(const GradientTile& t) {
  __mmask16 masks[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t left = t.columns - v * kVectorColumns;
    masks[v] = left >= kVectorColumns ? __mmask16(0xffff) : static_cast<__mmask16>((1u << left) - 1);
  }
  __m512 sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v)
      sums[r][v] = t.accumulate ? _mm512_loadu_ps(t.sums + r * kTileColumns + v * kVectorColumns) : _mm512_setzero_ps();
  }
  const float* slopes = t.slopes;
  for (std::int64_t p = 0; p < t.positions; ++p) {
    const float* row = t.rows[p] + t.first;
    __m512 slope[kVectors];
    for (int v = 0; v < kVectors; ++v) slope[v] = _mm512_maskz_loadu_ps(masks[v], slopes + v * kVectorColumns);
    slopes += t.slope_pitch;
    for (int r = 0; r < kRows; ++r) {
      const __m512 x = _mm512_set1_ps(row[r]);
      for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_fmadd_ps(x, slope[v], sums[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v)
      _mm512_storeu_ps(t.sums + r * kTileColumns + v * kVectorColumns, sums[r][v]);
  }
}

using Function = void (*)(const GradientTile&);
constexpr Function kWide[kTileRows] = {gradient<1, 2>, gradient<2, 2>,  gradient<3, 2>,  gradient<4, 2>,
                                       gradient<5, 2>, gradient<6, 2>,  gradient<7, 2>,  gradient<8, 2>,
                                       gradient<9, 2>, gradient<10, 2>, gradient<11, 2>, gradient<12, 2>};
constexpr Function kNarrow[kTileRows] = {gradient<1, 1>, gradient<2, 1>,  gradient<3, 1>,  gradient<4, 1>,
                                         gradient<5, 1>, gradient<6, 1>,  gradient<7, 1>,  gradient<8, 1>,
                                         gradient<9, 1>, gradient<10, 1>, gradient<11, 1>, gradient<12, 1>};

}  // namespace

void gradient_tile(const GradientTile& tile) {
  (tile.columns > kVectorColumns ? kWide : kNarrow)[tile.count - 1](tile);
}

}  // namespace graft::kernels::avx512
