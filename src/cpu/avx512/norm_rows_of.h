#pragma once

#include "cpu/avx512/elements.h"
#include "cpu/avx512/norm_rows.h"

namespace graft::kernels::avx512 {
namespace {

inline constexpr std::int64_t kStripVectors = 4, kStripChannels = kStripVectors * kVectorColumns;

// Some rows of a strip of V vectors of channels, which begins at `channel`.
template <int V>
struct Strip {
  std::int64_t first_row, end_row, channel;
  std::int64_t rows_ahead;  // from a row to the one that is asked for while it is used
  __mmask16 last;           // lanes of the last vector

  [[gnu::always_inline]] __mmask16 mask(int v) const { return v + 1 < V ? __mmask16(0xffff) : last; }
  [[gnu::always_inline]] std::int64_t at(int v) const { return channel + v * kVectorColumns; }

  // Reads and writes a vector of a row, and asks for that of a later row: the processor asks ahead too, but too little.
  template <class T>
  [[gnu::always_inline]] __m512 element(const T* row, std::int64_t pitch, int v) const {
    _mm_prefetch(reinterpret_cast<const char*>(row + rows_ahead * pitch + at(v)), _MM_HINT_T0);
    return Element<T>::load(mask(v), row + at(v));
  }
  template <class T>
  [[gnu::always_inline]] void put(T* row, std::int64_t pitch, int v, __m512 value, bool streams) const {
    if (!streams) __builtin_prefetch(row + rows_ahead * pitch + at(v), 1);
    Element<T>::store(row + at(v), mask(v), value, streams);
  }
  // A number for each channel: V vectors of them.
  [[gnu::always_inline]] void load(const float* from, __m512 (&to)[V]) const {
    unrolled<V>([&](auto v) { to[v] = _mm512_maskz_loadu_ps(mask(v), from + at(v)); });
  }
  [[gnu::always_inline]] void store(const __m512 (&from)[V], float* to) const {
    unrolled<V>([&](auto v) { _mm512_mask_storeu_ps(to + at(v), mask(v), from[v]); });
  }
  // Sums that the rows before began.
  [[gnu::always_inline]] void resume(const float* from, __m512 (&to)[V]) const {
    if (first_row > 0) return load(from, to);
    unrolled<V>([&](auto v) { to[v] = _mm512_setzero_ps(); });
  }
};

// Calls body(strip) for all of a block. What belongs to channels stays in registers while a strip goes down the rows;
// where a row has several strips these are but a few rows high, so that memory is read from front to back.
template <class Body>
[[gnu::always_inline]] inline void for_each_strip(std::int64_t rows, std::int64_t channels, const Body& body) {
  constexpr std::int64_t kRowsTogether = 4, kElementsAhead = 1024;
  const std::int64_t step = channels <= kStripChannels ? rows : kRowsTogether;
  const std::int64_t ahead = channels <= kStripChannels ? 1 + kElementsAhead / channels : kRowsTogether;
  for (std::int64_t first = 0; first < rows; first += step) {
    const std::int64_t end = first + step < rows ? first + step : rows;
    std::int64_t c = 0;
    for (; c + kStripChannels <= channels; c += kStripChannels) body(Strip<4>{first, end, c, ahead, __mmask16(0xffff)});
    const std::int64_t left = channels - c;
    const __mmask16 last = first_lanes((left - 1) % kVectorColumns + 1);
    if (left > 3 * kVectorColumns)
      body(Strip<4>{first, end, c, ahead, last});
    else if (left > 2 * kVectorColumns)
      body(Strip<3>{first, end, c, ahead, last});
    else if (left > kVectorColumns)
      body(Strip<2>{first, end, c, ahead, last});
    else if (left > 0)
      body(Strip<1>{first, end, c, ahead, last});
  }
}

// In one pass: sums of x less the first row, from which the sum of squares about the mean is squares - sum^2 / rows.
// The first row lies within the spread of x, where these do not cancel.
template <class T>
void sum_moments_of(const MomentRows<T>& b) {
  const __m512 share = _mm512_set1_ps(1.f / static_cast<float>(b.rows));
  for_each_strip(
      b.rows, b.channels, [&]<int V>(const Strip<V>& s) __attribute__((always_inline)) {
        __m512 origin[V], sum[V], square[V];
        unrolled<V>([&](auto v) { origin[v] = Element<T>::load(s.mask(v), b.x + s.at(v)); });
        s.resume(b.means, sum);
        s.resume(b.squares, square);
        for (std::int64_t r = s.first_row; r < s.end_row; ++r) {
          unrolled<V>([&](auto v) {
            const __m512 distance = _mm512_sub_ps(s.element(b.x + r * b.pitch, b.pitch, v), origin[v]);
            sum[v] = _mm512_add_ps(sum[v], distance);
            square[v] = _mm512_fmadd_ps(distance, distance, square[v]);
          });
        }
        if (s.end_row == b.rows) {
          unrolled<V>([&](auto v) {
            const __m512 mean = _mm512_mul_ps(sum[v], share);
            square[v] = _mm512_max_ps(_mm512_setzero_ps(), _mm512_fnmadd_ps(sum[v], mean, square[v]));
            sum[v] = _mm512_add_ps(origin[v], mean);
          });
        }
        s.store(sum, b.means);
        s.store(square, b.squares);
      });
}

template <class T>
void map_rows_of(const AffineRows<T>& b) {
  const Bounds bounds(b.clamp);
  for_each_strip(
      b.rows, b.channels, [&]<int V>(const Strip<V>& s) __attribute__((always_inline)) {
        __m512 mean[V], scale[V], shift[V];
        s.load(b.mean, mean);
        s.load(b.scale, scale);
        s.load(b.shift, shift);
        for (std::int64_t r = s.first_row; r < s.end_row; ++r) {
          unrolled<V>([&](auto v) {
            const __m512 distance = _mm512_sub_ps(s.element(b.x + r * b.x_pitch, b.x_pitch, v), mean[v]);
            __m512 y = _mm512_fmadd_ps(distance, scale[v], shift[v]);
            if (b.residual != nullptr)
              y = _mm512_add_ps(y, s.element(b.residual + r * b.residual_pitch, b.residual_pitch, v));
            s.put(b.y + r * b.y_pitch, b.y_pitch, v, bounds(y), b.streams);
          });
        }
      });
}

// The lanes of dy that a clamp lets through, where it was given z.
template <class T, bool Masked>
struct ClampMask {
  Bounds bounds;

  explicit ClampMask(Clamp clamp) : bounds(clamp) {}
  [[gnu::always_inline]] __m512 operator()(__m512 dy, __m512 distance, __m512 scale, __m512 shift) const {
    if constexpr (!Masked) return dy;
    const __m512 y = Element<T>::round(_mm512_fmadd_ps(distance, scale, shift));
    const __mmask16 inside =
        _mm512_kand(_mm512_cmp_ps_mask(y, bounds.least, _CMP_GT_OQ), _mm512_cmp_ps_mask(y, bounds.most, _CMP_LT_OQ));
    return _mm512_maskz_mov_ps(inside, dy);
  }
};

template <bool Masked, class T>
void sum_slopes_by(const SlopeRows<T>& b) {
  const ClampMask<T, Masked> dz_of(b.from.mask);
  for_each_strip(
      b.rows, b.channels, [&]<int V>(const Strip<V>& s) __attribute__((always_inline)) {
        __m512 mean[V], scale[V] = {}, shift[V] = {}, slope[V], product[V];
        s.load(b.from.mean, mean);
        if constexpr (Masked) {
          s.load(b.from.scale, scale);
          s.load(b.from.shift, shift);
        }
        s.resume(b.slopes, slope);
        s.resume(b.products, product);
        for (std::int64_t r = s.first_row; r < s.end_row; ++r) {
          unrolled<V>([&](auto v) {
            __m512 dz = s.element(b.from.dy + r * b.from.dy_pitch, b.from.dy_pitch, v);
            if (Masked || b.from.x != nullptr) {
              const __m512 distance =
                  _mm512_sub_ps(s.element(b.from.x + r * b.from.x_pitch, b.from.x_pitch, v), mean[v]);
              dz = dz_of(dz, distance, scale[v], shift[v]);
              product[v] = _mm512_fmadd_ps(dz, distance, product[v]);
            }
            slope[v] = _mm512_add_ps(slope[v], dz);
          });
        }
        s.store(slope, b.slopes);
        s.store(product, b.products);
      });
}
template <class T>
void sum_slopes_of(const SlopeRows<T>& b) {
  b.from.mask == Clamp::none ? sum_slopes_by<false>(b) : sum_slopes_by<true>(b);
}

template <bool Masked, class T>
void map_gradient_by(const GradientRows<T>& b) {
  const ClampMask<T, Masked> dz_of(b.from.mask);
  for_each_strip(
      b.rows, b.channels, [&]<int V>(const Strip<V>& s) __attribute__((always_inline)) {
        __m512 mean[V], scale[V], shift[V] = {}, along[V], constant[V];
        s.load(b.from.mean, mean);
        s.load(b.from.scale, scale);
        if constexpr (Masked) s.load(b.from.shift, shift);
        s.load(b.along, along);
        s.load(b.constant, constant);
        for (std::int64_t r = s.first_row; r < s.end_row; ++r) {
          unrolled<V>([&](auto v) {
            const __m512 distance = _mm512_sub_ps(s.element(b.from.x + r * b.from.x_pitch, b.from.x_pitch, v), mean[v]);
            const __m512 dy = s.element(b.from.dy + r * b.from.dy_pitch, b.from.dy_pitch, v);
            const __m512 dz = dz_of(dy, distance, scale[v], shift[v]);
            T* to = b.dx + r * b.dx_pitch + s.at(v);
            __m512 dx = _mm512_fmadd_ps(scale[v], dz, _mm512_fmadd_ps(distance, along[v], constant[v]));
            if (b.accumulate) dx = _mm512_add_ps(dx, Element<T>::load(s.mask(v), to));
            s.put(b.dx + r * b.dx_pitch, b.dx_pitch, v, dx, b.streams);
          });
        }
      });
}
template <class T>
void map_gradient_of(const GradientRows<T>& b) {
  b.from.mask == Clamp::none ? map_gradient_by<false>(b) : map_gradient_by<true>(b);
}

}  // namespace
}  // namespace graft::kernels::avx512
