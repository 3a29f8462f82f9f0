#include "cpu/avx512/lanes.h"

namespace graft::kernels::avx512 {
namespace {

template <int kRows>
void dots(const float* rows, std::int64_t row_pitch, const float* columns, std::int64_t column_pitch,
          std::int64_t depth, float (&sums)[kDotRows][kDotColumns]) {
  __m512 lanes[kRows][kDotColumns];
  unrolled<kRows>([&](auto r) { unrolled<kDotColumns>([&](auto c) { lanes[r][c] = _mm512_setzero_ps(); }); });
  for (std::int64_t k = 0; k < depth; k += kVectorColumns) {
    const __mmask16 mask = first_lanes(depth - k);
    __m512 x[kRows];
    unrolled<kRows>([&](auto r) { x[r] = _mm512_maskz_loadu_ps(mask, rows + r * row_pitch + k); });
    unrolled<kDotColumns>([&](auto c) {
      const __m512 w = _mm512_maskz_loadu_ps(mask, columns + c * column_pitch + k);
      __builtin_prefetch(columns + c * column_pitch + k + 256);
      unrolled<kRows>([&](auto r) { lanes[r][c] = _mm512_fmadd_ps(x[r], w, lanes[r][c]); });
    });
  }
  unrolled<kRows>(
      [&](auto r) { unrolled<kDotColumns>([&](auto c) { sums[r][c] = _mm512_reduce_add_ps(lanes[r][c]); }); });
}

}  // namespace

void dot_tile(const float* rows, std::int64_t row_pitch, std::int64_t count, const float* columns,
              std::int64_t column_pitch, std::int64_t depth, float (&sums)[kDotRows][kDotColumns]) {
  constexpr decltype(&dots<1>) kDots[] = {dots<1>, dots<2>, dots<3>, dots<4>};
  kDots[count - 1](rows, row_pitch, columns, column_pitch, depth, sums);
}

}  // namespace graft::kernels::avx512
