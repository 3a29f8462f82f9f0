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

namespace {

// One loop for each function that nets have in every layer, so that it becomes vector instructions.
template <Activation kFunction, class T>
GRAFT_INLINE inline void slopes_of(const T* saved, const T* dy, T* dx, Index count, bool accumulate) {
  if (accumulate) {
#pragma omp simd
    for (Index i = 0; i < count; ++i)
      dx[i] = convert<T>(static_cast<float>(dx[i]) +
                         static_cast<float>(dy[i]) * kernels::derivative(kFunction, static_cast<float>(saved[i])));
  } else {
#pragma omp simd
    for (Index i = 0; i < count; ++i)
      dx[i] = convert<T>(static_cast<float>(dy[i]) * kernels::derivative(kFunction, static_cast<float>(saved[i])));
  }
}

template <class T>
GRAFT_INLINE inline void slopes_of(Activation function, const T* saved, const T* dy, T* dx, Index count,
                                   bool accumulate) {
  if (function == Activation::relu)
    slopes_of<Activation::relu>(saved, dy, dx, count, accumulate);
  else if (function == Activation::relu6)
    slopes_of<Activation::relu6>(saved, dy, dx, count, accumulate);
  else
    slope_row<T>(function, saved, dy, dx, count, accumulate);
}

}  // namespace

GRAFT_CPU_CLONES void slope_row(Activation function, const float* saved, const float* dy, float* dx, Index count,
                                bool accumulate) {
  slopes_of(function, saved, dy, dx, count, accumulate);
}
GRAFT_CPU_CLONES void slope_row(Activation function, const bfloat16* saved, const bfloat16* dy, bfloat16* dx,
                                Index count, bool accumulate) {
  slopes_of(function, saved, dy, dx, count, accumulate);
}

void activate_row(Activation function, double* values, Index count) {
  if (function == Activation::linear) return;
  for (Index i = 0; i < count; ++i) values[i] = activate(function, values[i]);
}

}  // namespace graft::cpu
