#pragma once

#include "graft/core/context.h"
#include "graft/core/dtype.h"

namespace graft::library {

/// Whether `auto` leaves products of this type to graft's own kernels where the library would have to compile one for
/// the call: cuDNN takes 0.2 to 1.2 s a layer for that, and what it then has is no faster than Hopper's kernels of
/// graft (`layers_benchmark --device cuda`). So it is for halves on a GPU that those run on.
bool compiling_does_not_pay(const Context& context, DType type);

}  // namespace graft::library
