#pragma once

#include "graft/core/tensor.h"

namespace graft::nn {

/// Keeps a copy of a weight in half precision beside it, made again if the weight has changed since: what kernels of a
/// device read, so that they need not round for themselves. Nothing for statistics, biases and weights on the CPU.
void keep_rounded(const Tensor& weight, DType dtype);

}  // namespace graft::nn
