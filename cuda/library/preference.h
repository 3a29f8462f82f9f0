#pragma once

#include "graft/core/context.h"
#include "graft/core/dtype.h"

namespace graft::library {

/// Whether graft's own products of this type are about as fast as a library's, as those on Hopper's units are
/// (`layers_benchmark --device cuda`): `auto` leaves them calls for which the library would need more than its product,
/// a kernel that it has to compile first, which takes cuDNN 0.2 to 1.2 s a layer, or another pass over the result.
bool own_products_suffice(const Context& context, DType type);

}  // namespace graft::library
