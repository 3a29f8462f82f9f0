#include "library/preference.h"

namespace graft {

namespace cuda::hopper {
bool allowed(const Context& context);  // in cuda/hopper/gemm.cu
}

namespace library {

bool own_products_suffice(const Context& context, DType type) {
#if GRAFT_HAS_HOPPER
  return is_half(type) && cuda::hopper::allowed(context);
#else
  static_cast<void>(context);
  static_cast<void>(type);
  return false;
#endif
}

}  // namespace library
}  // namespace graft
