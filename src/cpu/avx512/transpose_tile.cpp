#include "cpu/avx512/transpose.h"

namespace graft::kernels::avx512 {

void transpose_panel(const float* from, std::int64_t pitch, std::int64_t columns, std::int64_t depth, float* to) {
  constexpr std::int64_t kAhead = 128;  // numbers of each column, which may come from memory
  const std::int64_t width = columns > kVectorColumns ? kTileColumns : kVectorColumns;
  for (std::int64_t k = 0; k < depth; k += 16) {
    const __mmask16 mask = first_lanes(depth - k);
    for (std::int64_t c = 0; c < width; c += 16) {
      __m512 block[16];
      unrolled<16>([&](auto i) {
        if (c + i < columns) __builtin_prefetch(from + (c + i) * pitch + k + kAhead);
        block[i] = c + i < columns ? _mm512_maskz_loadu_ps(mask, from + (c + i) * pitch + k) : _mm512_setzero_ps();
      });
      transpose(block);
      unrolled<16>([&](auto i) {
        if (k + i < depth) _mm512_storeu_ps(to + (k + i) * width + c, block[i]);
      });
    }
  }
}

}  // namespace graft::kernels::avx512
