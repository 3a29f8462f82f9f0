#include "cpu/avx512/elements.h"
#include "cpu/avx512/product.h"

namespace graft::kernels::avx512 {

void product_tile(const ProductTile<Half>& tile) { run_product(tile); }

void pair_panel(const float* from, std::int64_t depth, std::int64_t width, Half* to) {
  for (std::int64_t k = 0; k < depth; k += 2) {
    for (std::int64_t c = 0; c < width; c += kVectorColumns, to += 2 * kVectorColumns) {
      const float* pair = from + k * width + c;
      const __m512 first = _mm512_loadu_ps(pair);
      const __m512 second = k + 1 < depth ? _mm512_loadu_ps(pair + width) : _mm512_setzero_ps();
      const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(first));
      const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(second));
      _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
  }
}

}  // namespace graft::kernels::avx512
