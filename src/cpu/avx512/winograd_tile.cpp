#include "cpu/avx512/winograd_points.h"

namespace graft::kernels::avx512 {
namespace {

// B^T d: row i holds the coefficients of the product of (x - p) over the finite points p other than the i-th.
[[gnu::always_inline]] inline void input_transform(const __m512 (&d)[6], __m512 (&t)[6]) {
  t[0] = plus(plus(d[4], -(a2 + b2), d[2]), a2 * b2, d[0]);
  const __m512 even_a = plus(d[4], -b2, d[2]), odd_a = times(a, plus(d[3], -b2, d[1]));
  t[1] = _mm512_add_ps(even_a, odd_a);
  t[2] = _mm512_sub_ps(even_a, odd_a);
  const __m512 even_b = plus(d[4], -a2, d[2]), odd_b = times(b, plus(d[3], -a2, d[1]));
  t[3] = _mm512_add_ps(even_b, odd_b);
  t[4] = _mm512_sub_ps(even_b, odd_b);
  t[5] = plus(plus(d[5], -(a2 + b2), d[3]), a2 * b2, d[1]);
}

// G g: the values of g0 + g1 x + g2 x^2 at the points, each divided by the product of the point's distances from the
// other finite ones; at infinity g2.
[[gnu::always_inline]] inline void weight_transform(const __m512 (&g)[3], __m512 (&t)[6]) {
  constexpr float n0 = 1 / (a2 * b2), na = 1 / (2 * a2 * (a2 - b2)), nb = 1 / (2 * b2 * (b2 - a2));
  t[0] = times(n0, g[0]);
  const __m512 even_a = times(na, plus(g[0], a2, g[2])), odd_a = times(na * a, g[1]);
  t[1] = _mm512_add_ps(even_a, odd_a);
  t[2] = _mm512_sub_ps(even_a, odd_a);
  const __m512 even_b = times(nb, plus(g[0], b2, g[2])), odd_b = times(nb * b, g[1]);
  t[3] = _mm512_add_ps(even_b, odd_b);
  t[4] = _mm512_sub_ps(even_b, odd_b);
  t[5] = g[2];
}

__m512 load(__mmask16 mask, const float* at) { return _mm512_maskz_loadu_ps(mask, at); }
__m512 load(__mmask16 mask, const Half* at) { return load_half(mask, at); }

template <class T>
void input(const T* const* pixels, std::int64_t channels, float* to, std::int64_t stride) {
  for (std::int64_t c = 0; c < channels; c += kVectorColumns) {
    const __mmask16 mask = first_lanes(channels - c);
    __m512 half[6][6];  // the columns transformed: half[column][row]
    unrolled<6>([&](auto column) {
      __m512 d[6];
      unrolled<6>([&](auto row) { d[row] = load(mask, pixels[row * 6 + column] + c); });
      input_transform(d, half[column]);
    });
    unrolled<6>([&](auto row) {
      __m512 d[6], t[6];
      unrolled<6>([&](auto column) { d[column] = half[column][row]; });
      input_transform(d, t);
      unrolled<6>([&](auto column) { _mm512_mask_storeu_ps(to + (row * 6 + column) * stride + c, mask, t[column]); });
    });
  }
}

}  // namespace

void winograd_input(const float* const* pixels, std::int64_t channels, float* to, std::int64_t stride) {
  input(pixels, channels, to, stride);
}
void winograd_input(const Half* const* pixels, std::int64_t channels, float* to, std::int64_t stride) {
  input(pixels, channels, to, stride);
}

void winograd_weights(const float* taps, const int* tap_order, std::int64_t tap_stride, std::int64_t count, float* to,
                      std::int64_t stride) {
  for (std::int64_t e = 0; e < count; e += kVectorColumns) {
    __m512 half[3][6];
    unrolled<3>([&](auto column) {
      __m512 g[3];
      unrolled<3>([&](auto row) { g[row] = _mm512_loadu_ps(taps + tap_order[row * 3 + column] * tap_stride + e); });
      weight_transform(g, half[column]);
    });
    unrolled<6>([&](auto row) {
      __m512 g[3], t[6];
      unrolled<3>([&](auto column) { g[column] = half[column][row]; });
      weight_transform(g, t);
      unrolled<6>([&](auto column) { _mm512_storeu_ps(to + (row * 6 + column) * stride + e, t[column]); });
    });
  }
}

}  // namespace graft::kernels::avx512
