#include "cpu/activate_row.h"

namespace graft::cpu {

using kernels::activate;

// The function is chosen outside the loop, so that the loops of relu and relu6 become vector instructions.
GRAFT_CPU_CLONES void activate_row(Activation function, float* values, Index count) {
  if (function == Activation::linear) return;
  if (function == Activation::relu) {
    for (Index i = 0; i < count; ++i) values[i] = activate(Activation::relu, values[i]);
  } else if (function == Activation::relu6) {
    for (Index i = 0; i < count; ++i) values[i] = activate(Activation::relu6, values[i]);
  } else {
    for (Index i = 0; i < count; ++i) values[i] = activate(function, values[i]);
  }
}

void activate_row(Activation function, double* values, Index count) {
  if (function == Activation::linear) return;
  for (Index i = 0; i < count; ++i) values[i] = activate(function, values[i]);
}

}  // namespace graft::cpu
