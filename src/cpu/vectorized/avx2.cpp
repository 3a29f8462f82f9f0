#include "cpu/vectorized/tile_functions.h"

namespace graft::kernels::vectorized {

const FloatTable kAvx2 = kFloats;
const HalfTable kAvx2Half = kHalves<>;

}  // namespace graft::kernels::vectorized
