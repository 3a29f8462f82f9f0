#pragma once

#include "cpu/vectorized/elements.h"

namespace graft::kernels::vectorized {
namespace {

// The points of interpolation are 0, a, -a, b, -b and infinity. With a = 5/8 and b = 3/2 rounding grows least among
// those that were tried: about 1.5 times that of direct sums, where 1 and 2 give 6 times. Both are exact in binary.
constexpr float kA = 0.625f, kB = 1.5f, kA2 = kA * kA, kB2 = kB * kB;

GRAFT_LANES Lanes times(float scale, Lanes x) { return all(scale) * x; }
// x + scale y.
GRAFT_LANES Lanes plus(Lanes x, float scale, Lanes y) { return add_product(all(scale), y, x); }

// B^T d: row i holds the coefficients of the product of (x - p) over the finite points p other than the i-th.
GRAFT_LANES void input_transform(const Lanes (&d)[6], Lanes (&t)[6]) {
  t[0] = plus(plus(d[4], -(kA2 + kB2), d[2]), kA2 * kB2, d[0]);
  const Lanes even_a = plus(d[4], -kB2, d[2]), odd_a = times(kA, plus(d[3], -kB2, d[1]));
  t[1] = even_a + odd_a;
  t[2] = even_a - odd_a;
  const Lanes even_b = plus(d[4], -kA2, d[2]), odd_b = times(kB, plus(d[3], -kA2, d[1]));
  t[3] = even_b + odd_b;
  t[4] = even_b - odd_b;
  t[5] = plus(plus(d[5], -(kA2 + kB2), d[3]), kA2 * kB2, d[1]);
}

// G g: the values of g0 + g1 x + g2 x^2 at the points, each divided by the product of the point's distances from the
// other finite ones; at infinity g2.
GRAFT_LANES void weight_transform(const Lanes (&g)[3], Lanes (&t)[6]) {
  constexpr float n0 = 1 / (kA2 * kB2), na = 1 / (2 * kA2 * (kA2 - kB2)), nb = 1 / (2 * kB2 * (kB2 - kA2));
  t[0] = times(n0, g[0]);
  const Lanes even_a = times(na, plus(g[0], kA2, g[2])), odd_a = times(na * kA, g[1]);
  t[1] = even_a + odd_a;
  t[2] = even_a - odd_a;
  const Lanes even_b = times(nb, plus(g[0], kB2, g[2])), odd_b = times(nb * kB, g[1]);
  t[3] = even_b + odd_b;
  t[4] = even_b - odd_b;
  t[5] = g[2];
}

template <class T>
void winograd_input_of(const T* const* pixels, std::int64_t channels, float* to, std::int64_t stride) {
  for (std::int64_t c = 0; c < channels; c += kVectorColumns) {
    const Mask mask = first_lanes(channels - c);
    Lanes half[6][6];  // the columns transformed: half[column][row]
    unrolled<6>([&](auto column) {
      Lanes d[6];
      unrolled<6>([&](auto row) { d[row] = load(mask, pixels[row * 6 + column] + c); });
      input_transform(d, half[column]);
    });
    unrolled<6>([&](auto row) {
      Lanes d[6], t[6];
      unrolled<6>([&](auto column) { d[column] = half[column][row]; });
      input_transform(d, t);
      unrolled<6>([&](auto column) { store(to + (row * 6 + column) * stride + c, mask, t[column]); });
    });
  }
}

[[maybe_unused]] void winograd_weights_of(const float* taps, const int* tap_order, std::int64_t tap_stride,
                                          std::int64_t count, float* to, std::int64_t stride) {
  for (std::int64_t e = 0; e < count; e += kVectorColumns) {
    Lanes half[3][6];
    unrolled<3>([&](auto column) {
      Lanes g[3];
      unrolled<3>([&](auto row) { g[row] = load(taps + tap_order[row * 3 + column] * tap_stride + e); });
      weight_transform(g, half[column]);
    });
    unrolled<6>([&](auto row) {
      Lanes g[3], t[6];
      unrolled<3>([&](auto column) { g[column] = half[column][row]; });
      weight_transform(g, t);
      unrolled<6>([&](auto column) { store(to + (row * 6 + column) * stride + e, t[column]); });
    });
  }
}

// A^T m: result j sums the products at the points p, each times p^j; infinity's belongs to the last.
GRAFT_LANES void output_transform(const Lanes (&m)[6], Lanes (&t)[4]) {
  const Lanes sum_a = m[1] + m[2], difference_a = m[1] - m[2];
  const Lanes sum_b = m[3] + m[4], difference_b = m[3] - m[4];
  t[0] = m[0] + sum_a + sum_b;
  t[1] = plus(times(kA, difference_a), kB, difference_b);
  t[2] = plus(times(kA2, sum_a), kB2, sum_b);
  t[3] = plus(plus(m[5], kA * kA2, difference_a), kB * kB2, difference_b);
}

template <class T>
void winograd_output_of(const WinogradOutput<T>& tile) {
  const Bounds bounds(tile.clamp);
  for (std::int64_t c = 0; c < tile.channels; c += kVectorColumns) {
    const Mask mask = first_lanes(tile.channels - c);
    const Lanes bias = tile.bias == nullptr ? zeros() : load(mask, tile.bias + c);
    Lanes half[6][4];  // the columns transformed: half[column][row]
    unrolled<6>([&](auto column) {
      Lanes m[6];
      unrolled<6>([&](auto row) { m[row] = load(mask, tile.from + (row * 6 + column) * tile.stride + c); });
      output_transform(m, half[column]);
    });
    unrolled<4>([&](auto row) {
      if (row >= tile.rows) return;
      Lanes m[6], t[4];
      unrolled<6>([&](auto column) { m[column] = half[column][row]; });
      output_transform(m, t);
      unrolled<4>([&](auto column) {
        if (column >= tile.columns) return;
        Lanes sum = t[column] + bias;
        if (tile.residual != nullptr) {
          sum = sum + load(mask, tile.residual + row * tile.residual_row + column * tile.residual_pixel + c);
        }
        Element<T>::put(tile.y + row * tile.y_row + column * tile.y_pixel + c, mask, bounds(sum), tile.streams);
      });
    });
  }
}

}  // namespace
}  // namespace graft::kernels::vectorized
