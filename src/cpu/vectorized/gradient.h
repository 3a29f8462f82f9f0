#pragma once

#include "cpu/vectorized/elements.h"

namespace graft::kernels::vectorized {
namespace {

template <int kRows, int kVectors>
void gradient_part(const GradientTile& t, std::int64_t first_row, std::int64_t first_column) {
  Mask masks[kVectors];
  unrolled<kVectors>([&](auto v) { masks[v] = first_lanes(t.columns - first_column - v * kVectorColumns); });
  float* to = t.sums + first_row * t.sum_pitch + first_column;
  if (t.accumulate) {  // what the sums are added to comes from memory while they are made
    unrolled<kRows>([&](auto r) {
      unrolled<kVectors>([&](auto v) { __builtin_prefetch(to + r * t.sum_pitch + v * kVectorColumns, 1); });
    });
  }
  Lanes sums[kRows][kVectors];
  unrolled<kRows>([&](auto r) { unrolled<kVectors>([&](auto v) { sums[r][v] = zeros(); }); });
  const bool asks_ahead = first_row == 0 && first_column == 0;
  const float* slopes = t.slopes + first_column;
  for (std::int64_t p = 0; p < t.positions; ++p) {
    const float* row = t.rows[p] + t.first + first_row;
    if (asks_ahead) __builtin_prefetch(t.rows[p + kRowsAhead] + t.first, 0, 2);
    Lanes slope[kVectors];
    unrolled<kVectors>([&](auto v) { slope[v] = load(masks[v], slopes + v * kVectorColumns); });
    slopes += t.slope_pitch;
    unrolled<kRows>([&](auto r) {
      const Lanes x = all(row[r]);
      unrolled<kVectors>([&](auto v) { sums[r][v] = add_product(x, slope[v], sums[r][v]); });
    });
  }
  unrolled<kRows>([&](auto r) {
    unrolled<kVectors>([&](auto v) {
      float* at = to + r * t.sum_pitch + v * kVectorColumns;
      if (t.accumulate) sums[r][v] = sums[r][v] + load(masks[v], at);
      Element<float>::put(at, masks[v], sums[r][v], t.streams);
    });
  });
}

template <int kVectors, int... rows>
void gradient_columns(const GradientTile& t, std::int64_t first_column, std::integer_sequence<int, rows...>) {
  constexpr decltype(&gradient_part<1, kVectors>) kParts[] = {gradient_part<rows + 1, kVectors>...};
  constexpr std::int64_t kMost = sizeof...(rows);
  for (std::int64_t row = 0; row < t.count; row += kMost)
    kParts[(t.count - row < kMost ? t.count - row : kMost) - 1](t, row, first_column);
}

[[maybe_unused]] void gradient_of(const GradientTile& t) {
  constexpr std::make_integer_sequence<int, Element<float>::kRows> kCounts;
  constexpr int kVectors = Element<float>::kVectors;
  for (std::int64_t c = 0; c < t.columns; c += kVectors * kVectorColumns)
    t.columns - c <= kVectorColumns ? gradient_columns<1>(t, c, kCounts) : gradient_columns<kVectors>(t, c, kCounts);
}

}  // namespace
}  // namespace graft::kernels::vectorized
