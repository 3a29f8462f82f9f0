#include "cpu/vectorized/tile_functions.h"

namespace graft::kernels::vectorized {

const HalfTable kAvx512Half = kHalves<>;

}  // namespace graft::kernels::vectorized
