#include "cpu/avx512/elements.h"
#include "cpu/avx512/product.h"

namespace graft::kernels::avx512 {

void product_tile(const ProductTile<float>& tile) { run_product(tile); }

void finish_streams() { _mm_sfence(); }

}  // namespace graft::kernels::avx512
