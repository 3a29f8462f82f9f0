#include "cpu/vectorized/tile_functions.h"

namespace graft::kernels::vectorized {

const FloatTable kAvx512 = kFloats;

}  // namespace graft::kernels::vectorized
