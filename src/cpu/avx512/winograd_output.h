#pragma once

#include "cpu/avx512/elements.h"
#include "cpu/avx512/winograd_points.h"

namespace graft::kernels::avx512 {
namespace {

// A^T m: result j sums the products at the points p, each times p^j; infinity's belongs to the last.
[[gnu::always_inline]] inline void output_transform(const __m512 (&m)[6], __m512 (&t)[4]) {
  const __m512 sum_a = _mm512_add_ps(m[1], m[2]), difference_a = _mm512_sub_ps(m[1], m[2]);
  const __m512 sum_b = _mm512_add_ps(m[3], m[4]), difference_b = _mm512_sub_ps(m[3], m[4]);
  t[0] = _mm512_add_ps(_mm512_add_ps(m[0], sum_a), sum_b);
  t[1] = plus(times(a, difference_a), b, difference_b);
  t[2] = plus(times(a2, sum_a), b2, sum_b);
  t[3] = plus(plus(m[5], a * a2, difference_a), b * b2, difference_b);
}

template <class T>
void output(const WinogradOutput<T>& tile) {
  const Bounds bounds(tile.clamp);
  for (std::int64_t c = 0; c < tile.channels; c += kVectorColumns) {
    const __mmask16 mask = first_lanes(tile.channels - c);
    const __m512 bias = tile.bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, tile.bias + c);
    __m512 half[6][4];  // the columns transformed: half[column][row]
    unrolled<6>([&](auto column) {
      __m512 m[6];
      unrolled<6>(
          [&](auto row) { m[row] = _mm512_maskz_loadu_ps(mask, tile.from + (row * 6 + column) * tile.stride + c); });
      output_transform(m, half[column]);
    });
    unrolled<4>([&](auto row) {
      if (row >= tile.rows) return;
      __m512 m[6], t[4];
      unrolled<6>([&](auto column) { m[column] = half[column][row]; });
      output_transform(m, t);
      unrolled<4>([&](auto column) {
        if (column >= tile.columns) return;
        __m512 sum = _mm512_add_ps(t[column], bias);
        if (tile.residual != nullptr) {
          sum = _mm512_add_ps(
              sum, Element<T>::load(mask, tile.residual + row * tile.residual_row + column * tile.residual_pixel + c));
        }
        Element<T>::store(tile.y + row * tile.y_row + column * tile.y_pixel + c, mask, bounds(sum), tile.streams);
      });
    });
  }
}

}  // namespace
}  // namespace graft::kernels::avx512
