#pragma once

#include "cpu/vector_ops.h"
#include "kernels/activation_math.h"

namespace graft::cpu {

/// values[i] = f(values[i]).
void activate_row(Activation function, float* values, Index count);
void activate_row(Activation function, double* values, Index count);

}  // namespace graft::cpu
