#pragma once

#include "cpu/vector_ops.h"
#include "kernels/activation_math.h"

namespace graft::cpu {

/// values[i] = f(values[i]).
void activate_row(Activation function, float* values, Index count);
void activate_row(Activation function, double* values, Index count);

/// dx[i] (+)= dy[i] f'(saved[i]), `saved` being what kernels::derivative reads; null where it reads nothing. dx may be
/// dy.
void slope_row(Activation function, const float* saved, const float* dy, float* dx, Index count, bool accumulate);
void slope_row(Activation function, const bfloat16* saved, const bfloat16* dy, bfloat16* dx, Index count,
               bool accumulate);
template <class T>
void slope_row(Activation function, const T* saved, const T* dy, T* dx, Index count, bool accumulate) {
  using Sum = Accumulator<T>;
  for (Index i = 0; i < count; ++i) {
    const Sum slope =
        static_cast<Sum>(dy[i]) * kernels::derivative(function, saved ? static_cast<Sum>(saved[i]) : Sum(0));
    dx[i] = convert<T>(accumulate ? static_cast<Sum>(dx[i]) + slope : slope);
  }
}

}  // namespace graft::cpu
