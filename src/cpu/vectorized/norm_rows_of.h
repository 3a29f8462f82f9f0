#pragma once

#include "cpu/vectorized/elements.h"
#include "cpu/vectorized/norm_rows.h"

namespace graft::kernels::vectorized {
namespace {

constexpr int kStripVectors = kRegisters >= 32 ? 4 : 2;  // of which a map keeps up to four
constexpr std::int64_t kStripChannels = kStripVectors * kVectorColumns;

struct StripRows {
  std::int64_t first_row, end_row, channel;
  std::int64_t rows_ahead;  // from a row to the one that is asked for while it is used
  Mask last;                // lanes of the last vector
};

// Some rows of a strip of V vectors of channels, which begins at `channel`.
template <int V>
struct Strip : StripRows {
  [[gnu::always_inline]] Mask mask(int v) const { return v + 1 < V ? kAllLanes : last; }
  [[gnu::always_inline]] std::int64_t at(int v) const { return channel + v * kVectorColumns; }

  // Reads and writes a vector of a row, and asks for that of a later row: the processor asks ahead too, but too little.
  template <class T>
  [[gnu::always_inline]] Lanes element(const T* row, std::int64_t pitch, int v) const {
    _mm_prefetch(reinterpret_cast<const char*>(row + rows_ahead * pitch + at(v)), _MM_HINT_T0);
    return load(mask(v), row + at(v));
  }
  template <class T>
  [[gnu::always_inline]] void put(T* row, std::int64_t pitch, int v, Lanes value, bool streams) const {
    if (!streams) __builtin_prefetch(row + rows_ahead * pitch + at(v), 1);
    Element<T>::put(row + at(v), mask(v), value, streams);
  }
  // A number for each channel: V vectors of them.
  [[gnu::always_inline]] void read(const float* from, Lanes (&to)[V]) const {
    unrolled<V>([&](auto v) { to[v] = load(mask(v), from + at(v)); });
  }
  [[gnu::always_inline]] void write(const Lanes (&from)[V], float* to) const {
    unrolled<V>([&](auto v) { store(to + at(v), mask(v), from[v]); });
  }
  // Sums that the rows before began.
  [[gnu::always_inline]] void resume(const float* from, Lanes (&to)[V]) const {
    if (first_row > 0) return read(from, to);
    unrolled<V>([&](auto v) { to[v] = zeros(); });
  }
};

// Calls body(strip) for the channels of a row that make no whole strip.
template <int V, class Body>
[[gnu::always_inline]] inline void last_strip(const StripRows& rows, std::int64_t channels, const Body& body) {
  if (channels > (V - 1) * kVectorColumns)
    body(Strip<V>{rows});
  else if constexpr (V > 1)
    last_strip<V - 1>(rows, channels, body);
}

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
    for (; c + kStripChannels <= channels; c += kStripChannels)
      body(Strip<kStripVectors>{{first, end, c, ahead, kAllLanes}});
    const std::int64_t left = channels - c;
    last_strip<kStripVectors>({first, end, c, ahead, first_lanes((left - 1) % kVectorColumns + 1)}, left, body);
  }
}

// In one pass: sums of x less the first row, from which the sum of squares about the mean is squares - sum^2 / rows.
// The first row lies within the spread of x, where these do not cancel.
template <class T>
void sum_moments_of(const MomentRows<T>& b) {
  const Lanes share = all(1.f / static_cast<float>(b.rows));
  for_each_strip(
      b.rows, b.channels, [&]<int V>(const Strip<V>& s) __attribute__((always_inline)) {
        Lanes origin[V], sum[V], square[V];
        unrolled<V>([&](auto v) { origin[v] = load(s.mask(v), b.x + s.at(v)); });
        s.resume(b.means, sum);
        s.resume(b.squares, square);
        for (std::int64_t r = s.first_row; r < s.end_row; ++r) {
          unrolled<V>([&](auto v) {
            const Lanes distance = s.element(b.x + r * b.pitch, b.pitch, v) - origin[v];
            sum[v] = sum[v] + distance;
            square[v] = add_product(distance, distance, square[v]);
          });
        }
        if (s.end_row == b.rows) {
          unrolled<V>([&](auto v) {
            const Lanes mean = sum[v] * share;
            square[v] = most_of(zeros(), subtract_product(sum[v], mean, square[v]));
            sum[v] = origin[v] + mean;
          });
        }
        s.write(sum, b.means);
        s.write(square, b.squares);
      });
}

template <class T>
void map_rows_of(const AffineRows<T>& b) {
  const Bounds bounds(b.clamp);
  for_each_strip(
      b.rows, b.channels, [&]<int V>(const Strip<V>& s) __attribute__((always_inline)) {
        Lanes mean[V], scale[V], shift[V];
        s.read(b.mean, mean);
        s.read(b.scale, scale);
        s.read(b.shift, shift);
        for (std::int64_t r = s.first_row; r < s.end_row; ++r) {
          unrolled<V>([&](auto v) {
            const Lanes distance = s.element(b.x + r * b.x_pitch, b.x_pitch, v) - mean[v];
            Lanes y = add_product(distance, scale[v], shift[v]);
            if (b.residual != nullptr) y = y + s.element(b.residual + r * b.residual_pitch, b.residual_pitch, v);
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
  [[gnu::always_inline]] Lanes operator()(Lanes dy, Lanes distance, Lanes scale, Lanes shift) const {
    if constexpr (!Masked) return dy;
    const Lanes y = Element<T>::round(add_product(distance, scale, shift));
    return bounds.let_through(dy, y);
  }
};

template <bool Masked, class T>
void sum_slopes_by(const SlopeRows<T>& b) {
  const ClampMask<T, Masked> dz_of(b.from.mask);
  for_each_strip(
      b.rows, b.channels, [&]<int V>(const Strip<V>& s) __attribute__((always_inline)) {
        Lanes mean[V], scale[V] = {}, shift[V] = {}, slope[V], product[V];
        s.read(b.from.mean, mean);
        if constexpr (Masked) {
          s.read(b.from.scale, scale);
          s.read(b.from.shift, shift);
        }
        s.resume(b.slopes, slope);
        s.resume(b.products, product);
        for (std::int64_t r = s.first_row; r < s.end_row; ++r) {
          unrolled<V>([&](auto v) {
            Lanes dz = s.element(b.from.dy + r * b.from.dy_pitch, b.from.dy_pitch, v);
            if (Masked || b.from.x != nullptr) {
              const Lanes distance = s.element(b.from.x + r * b.from.x_pitch, b.from.x_pitch, v) - mean[v];
              dz = dz_of(dz, distance, scale[v], shift[v]);
              product[v] = add_product(dz, distance, product[v]);
            }
            slope[v] = slope[v] + dz;
          });
        }
        s.write(slope, b.slopes);
        s.write(product, b.products);
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
        Lanes mean[V], scale[V], shift[V] = {}, along[V], constant[V];
        s.read(b.from.mean, mean);
        s.read(b.from.scale, scale);
        if constexpr (Masked) s.read(b.from.shift, shift);
        s.read(b.along, along);
        s.read(b.constant, constant);
        for (std::int64_t r = s.first_row; r < s.end_row; ++r) {
          unrolled<V>([&](auto v) {
            const Lanes distance = s.element(b.from.x + r * b.from.x_pitch, b.from.x_pitch, v) - mean[v];
            const Lanes dy = s.element(b.from.dy + r * b.from.dy_pitch, b.from.dy_pitch, v);
            const Lanes dz = dz_of(dy, distance, scale[v], shift[v]);
            T* to = b.dx + r * b.dx_pitch + s.at(v);
            Lanes dx = add_product(scale[v], dz, add_product(distance, along[v], constant[v]));
            if (b.accumulate) dx = dx + load(s.mask(v), to);
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
}  // namespace graft::kernels::vectorized
