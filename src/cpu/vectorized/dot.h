#pragma once

#include "cpu/vectorized/elements.h"

namespace graft::kernels::vectorized {
namespace {

// Of so many columns sums stay in registers together.
template <int kRows>
constexpr int kColumnsTogether = kRegisters >= 32 ? kDotColumns : kDotColumns / kRows;

template <int kRows>
void dots(const float* rows, std::int64_t row_pitch, const float* columns, std::int64_t column_pitch,
          std::int64_t depth, float (&sums)[kDotRows][kDotColumns]) {
  constexpr int kColumns = kColumnsTogether<kRows>;
  for (std::int64_t first = 0; first < kDotColumns; first += kColumns, columns += kColumns * column_pitch) {
    Lanes lanes[kRows][kColumns];
    unrolled<kRows>([&](auto r) { unrolled<kColumns>([&](auto c) { lanes[r][c] = zeros(); }); });
    for (std::int64_t k = 0; k < depth; k += kVectorColumns) {
      const Mask mask = first_lanes(depth - k);
      Lanes x[kRows];
      unrolled<kRows>([&](auto r) { x[r] = load(mask, rows + r * row_pitch + k); });
      unrolled<kColumns>([&](auto c) {
        const Lanes w = load(mask, columns + c * column_pitch + k);
        __builtin_prefetch(columns + c * column_pitch + k + 256);
        unrolled<kRows>([&](auto r) { lanes[r][c] = add_product(x[r], w, lanes[r][c]); });
      });
    }
    unrolled<kRows>([&](auto r) { unrolled<kColumns>([&](auto c) { sums[r][first + c] = sum_of(lanes[r][c]); }); });
  }
}

[[maybe_unused]] void dots_of(const float* rows, std::int64_t row_pitch, std::int64_t count, const float* columns,
                              std::int64_t column_pitch, std::int64_t depth, float (&sums)[kDotRows][kDotColumns]) {
  constexpr decltype(&dots<1>) kDots[] = {dots<1>, dots<2>, dots<3>, dots<4>};
  kDots[count - 1](rows, row_pitch, columns, column_pitch, depth, sums);
}

}  // namespace
}  // namespace graft::kernels::vectorized
