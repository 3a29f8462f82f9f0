#include "cpu/avx512/norm_rows_of.h"

namespace graft::kernels::avx512 {

void sum_moments(const MomentRows<Half>& block) { sum_moments_of(block); }
void map_rows(const AffineRows<Half>& block) { map_rows_of(block); }
void sum_slopes(const SlopeRows<Half>& block) { sum_slopes_of(block); }
void map_gradient(const GradientRows<Half>& block) { map_gradient_of(block); }

}  // namespace graft::kernels::avx512
