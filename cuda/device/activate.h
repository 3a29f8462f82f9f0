#pragma once

#include "device/language.h"
#include "device/unroll.h"
#include "kernels/activation_math.h"

namespace graft::GRAFT_TARGET {

// A call, or the exponentials of every function would stand in a kernel once for each value that it keeps.
template <class S>
__device__ __attribute__((noinline)) S activate_by_call(Activation function, S x) {
  return kernels::activate(function, x);
}

template <class S>
__device__ __attribute__((noinline)) S derivative_by_call(Activation function, S saved) {
  return kernels::derivative(function, saved);
}

/// kernels::derivative.
template <class S>
__device__ S derivative(Activation function, S saved) {
  if (function == Activation::relu) return kernels::derivative(Activation::relu, saved);
  if (function == Activation::relu6) return kernels::derivative(Activation::relu6, saved);
  return derivative_by_call(function, saved);
}

/// values[k] = f(values[k]).
template <int N, class S>
__device__ void activate_values(Activation function, S (&values)[N]) {
  if (function == Activation::linear) return;
  if (function == Activation::relu) {
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) values[k] = kernels::activate(Activation::relu, values[k]);
  } else if (function == Activation::relu6) {
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) values[k] = kernels::activate(Activation::relu6, values[k]);
  } else if constexpr (N == 1) {
    values[0] = kernels::activate(function, values[0]);
  } else {
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) values[k] = activate_by_call(function, values[k]);
  }
}

}  // namespace graft::GRAFT_TARGET
