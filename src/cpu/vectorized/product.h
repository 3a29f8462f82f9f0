#pragma once

#include "cpu/vectorized/elements.h"

// The tile of a product for any type of elements, in parts whose sums stay in registers.
namespace graft::kernels::vectorized {
namespace {

template <class T, class Y, int kRows, int kVectors>
void product_part(const ProductTile<T, Y>& t, std::int64_t first_row, std::int64_t first_vector) {
  using Element = vectorized::Element<T>;
  constexpr std::int64_t kStepsAhead = 16;
  constexpr std::int64_t kLine = 64 / sizeof(T);  // numbers of a row that come from memory together
  const std::int64_t first_column = first_vector * kVectorColumns;
  const std::int64_t* positions = t.positions + first_row;
  const bool wide = t.columns > kVectorColumns;
  Lanes sums[kRows][kVectors];
  unrolled<kRows>([&](auto r) { unrolled<kVectors>([&](auto v) { sums[r][v] = zeros(); }); });
  if (!t.streams) {
    unrolled<kRows>([&](auto r) {  // where the sums will go comes from memory while they are made
      const Y* y = t.y + positions[r] * t.y_pitch + first_column;
      unrolled<kVectors>([&](auto v) { __builtin_prefetch(y + v * kVectorColumns, 1); });
    });
  }
  const T* weights = t.weights + first_vector * Element::kVector;
  for (std::int64_t term = 0; term < t.terms; ++term) {
    const T* const* rows = t.rows + term * t.row_stride + first_row;
    const T* x[kRows];
    unrolled<kRows>([&](auto r) { x[r] = rows[r]; });
    for (std::int64_t k = 0; k < t.depth;) {
      if (t.ahead > 0 && first_vector == 0) unrolled<kRows>([&](auto r) { __builtin_prefetch(rows[r + t.ahead] + k); });
      const std::int64_t end = t.depth - k < kLine ? t.depth : k + kLine;
      const auto step = [&](const auto& factor) {
        unrolled<kVectors>([&](auto v) { __builtin_prefetch(weights + (kStepsAhead * 2 + v) * Element::kVector); });
        typename Element::Vector w[kVectors];
        unrolled<kVectors>([&](auto v) { w[v] = Element::weights(weights + v * Element::kVector); });
        weights += wide ? 2 * Element::kVector : Element::kVector;
        unrolled<kRows>([&](auto r) {
          const typename Element::Vector f = factor(x[r] + k);
          unrolled<kVectors>([&](auto v) { sums[r][v] = Element::multiply_add(f, w[v], sums[r][v]); });
        });
      };
      for (; k + Element::kDepth <= end; k += Element::kDepth) step([](const T* at) { return Element::factor(at); });
      if (k < end) {
        step([](const T* at) { return Element::last_factor(at); });
        k = end;
      }
    }
  }
  Mask masks[kVectors];
  unrolled<kVectors>([&](auto v) { masks[v] = first_lanes(t.columns - first_column - v * kVectorColumns); });
  if (t.bias != nullptr) {
    unrolled<kVectors>([&](auto v) {
      const Lanes bias = load(masks[v], t.bias + first_column + v * kVectorColumns);
      unrolled<kRows>([&](auto r) { sums[r][v] = sums[r][v] + bias; });
    });
  }
  if (t.residual != nullptr) {
    unrolled<kRows>([&](auto r) {
      const Y* residual = t.residual + positions[r] * t.residual_pitch + first_column;
      unrolled<kVectors>([&](auto v) { sums[r][v] = sums[r][v] + load(masks[v], residual + v * kVectorColumns); });
    });
  }
  const Bounds bounds(t.clamp);
  unrolled<kRows>([&](auto r) {
    Y* y = t.y + positions[r] * t.y_pitch + first_column;
    unrolled<kVectors>(
        [&](auto v) { vectorized::Element<Y>::put(y + v * kVectorColumns, masks[v], bounds(sums[r][v]), t.streams); });
  });
}

// The rows of vectors first_vector .. first_vector + kVectors - 1.
template <class T, class Y, int kVectors, int... rows>
void product_columns(const ProductTile<T, Y>& t, std::int64_t first_vector, std::integer_sequence<int, rows...>) {
  constexpr decltype(&product_part<T, Y, 1, kVectors>) kParts[] = {product_part<T, Y, rows + 1, kVectors>...};
  constexpr std::int64_t kMost = sizeof...(rows);
  for (std::int64_t row = 0; row < t.count; row += kMost)
    kParts[(t.count - row < kMost ? t.count - row : kMost) - 1](t, row, first_vector);
}

template <class T, class Y>
void product_of(const ProductTile<T, Y>& t) {
  constexpr std::make_integer_sequence<int, Element<T>::kRows> kCounts;
  const std::int64_t vectors = t.columns > kVectorColumns ? 2 : 1;
  for (std::int64_t v = 0; v < vectors; v += Element<T>::kVectors)
    vectors - v < Element<T>::kVectors ? product_columns<T, Y, 1>(t, v, kCounts)
                                       : product_columns<T, Y, Element<T>::kVectors>(t, v, kCounts);
}

}  // namespace
}  // namespace graft::kernels::vectorized
