#include "cpu/avx512/lanes.h"

namespace graft::kernels::avx512 {
namespace {

template <int kRows, int kVectors>
void gradient(const GradientTile& t) {
  __mmask16 masks[kVectors];
  unrolled<kVectors>([&](auto v) { masks[v] = first_lanes(t.columns - v * kVectorColumns); });
  if (t.accumulate) {  // what the sums are added to comes from memory while they are made
    unrolled<kRows>([&](auto r) {
      unrolled<kVectors>([&](auto v) { __builtin_prefetch(t.sums + r * t.sum_pitch + v * kVectorColumns, 1); });
    });
  }
  __m512 sums[kRows][kVectors];
  unrolled<kRows>([&](auto r) { unrolled<kVectors>([&](auto v) { sums[r][v] = _mm512_setzero_ps(); }); });
  const float* slopes = t.slopes;
  for (std::int64_t p = 0; p < t.positions; ++p) {
    const float* row = t.rows[p] + t.first;
    __builtin_prefetch(t.rows[p + kRowsAhead] + t.first, 0, 2);
    __m512 slope[kVectors];
    unrolled<kVectors>([&](auto v) { slope[v] = _mm512_maskz_loadu_ps(masks[v], slopes + v * kVectorColumns); });
    slopes += t.slope_pitch;
    unrolled<kRows>([&](auto r) {
      const __m512 x = _mm512_set1_ps(row[r]);
      unrolled<kVectors>([&](auto v) { sums[r][v] = _mm512_fmadd_ps(x, slope[v], sums[r][v]); });
    });
  }
  unrolled<kRows>([&](auto r) {
    unrolled<kVectors>([&](auto v) {
      float* to = t.sums + r * t.sum_pitch + v * kVectorColumns;
      if (t.accumulate) sums[r][v] = _mm512_add_ps(sums[r][v], _mm512_maskz_loadu_ps(masks[v], to));
      write(to, masks[v], sums[r][v], t.streams);
    });
  });
}

using Gradient = void (*)(const GradientTile&);
template <int kVectors, int... rows>
constexpr Gradient pick(std::int64_t count, std::integer_sequence<int, rows...>) {
  constexpr Gradient kGradients[] = {gradient<rows + 1, kVectors>...};
  return kGradients[count - 1];
}

}  // namespace

void gradient_tile(const GradientTile& tile) {
  constexpr std::make_integer_sequence<int, kTileRows> kCounts;
  (tile.columns > kVectorColumns ? pick<2>(tile.count, kCounts) : pick<1>(tile.count, kCounts))(tile);
}

}  // namespace graft::kernels::avx512
