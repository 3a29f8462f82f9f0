#pragma once

#include "cpu/vectorized/elements.h"

namespace graft::kernels::vectorized {
namespace {

[[maybe_unused]] void transpose_panel_of(const float* from, std::int64_t pitch, std::int64_t columns,
                                         std::int64_t depth, float* to) {
  constexpr std::int64_t kAhead = 128;  // numbers of each column, which may come from memory
  const std::int64_t width = columns > kVectorColumns ? kTileColumns : kVectorColumns;
  for (std::int64_t k = 0; k < depth; k += 16) {
    const Mask mask = first_lanes(depth - k);
    for (std::int64_t c = 0; c < width; c += 16) {
      Lanes block[16];
      unrolled<16>([&](auto i) {
        if (c + i < columns) __builtin_prefetch(from + (c + i) * pitch + k + kAhead);
        block[i] = c + i < columns ? load(mask, from + (c + i) * pitch + k) : zeros();
      });
      transpose(block);
      unrolled<16>([&](auto i) {
        if (k + i < depth) store(to + (k + i) * width + c, block[i]);
      });
    }
  }
}

template <class T>
void pair_panel_of(const float* from, std::int64_t depth, std::int64_t width, T* to) {
  for (std::int64_t k = 0; k < depth; k += 2) {
    for (std::int64_t c = 0; c < width; c += kVectorColumns, to += 2 * kVectorColumns) {
      const float* pair = from + k * width + c;
      store_pairs(to, load(pair), k + 1 < depth ? load(pair + width) : zeros());
    }
  }
}
}  // namespace
}  // namespace graft::kernels::vectorized
