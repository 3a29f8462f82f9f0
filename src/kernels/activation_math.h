#pragma once

#include <cmath>
#include <numbers>

#include "graft/core/activation.h"

namespace graft::kernels {

// constexpr for nvcc, which compiles such functions for the GPU too.

/// f(x).
template <class T>
constexpr T activate(Activation function, T x) {
  switch (function) {
    case Activation::linear:
      return x;
    case Activation::relu:
      return x > T(0) ? x : (x == x ? T(0) : x);  // a NaN stays one, so that it is noticed
    case Activation::relu6:
      return x > T(0) ? (x < T(6) ? x : T(6)) : (x == x ? T(0) : x);
    case Activation::sigmoid:
      return T(1) / (T(1) + std::exp(-x));
    case Activation::tanh:
      return std::tanh(x);
    case Activation::gelu:
      return x * T(0.5) * (T(1) + std::erf(x * T(std::numbers::sqrt2 / 2)));
    case Activation::gelu_tanh: {
      const T u = T(0.7978845608028654) * (x + T(0.044715) * x * x * x);
      return x * T(0.5) * (T(1) + std::tanh(u));
    }
    case Activation::silu:
      return x / (T(1) + std::exp(-x));
  }
  return x;
}

/// f'(x), from y = f(x) where `derivative_from_result(function)`, else from x.
template <class T>
constexpr T derivative(Activation function, T saved) {
  switch (function) {
    case Activation::linear:
      return T(1);
    case Activation::relu:
      return saved > T(0) ? T(1) : T(0);
    case Activation::relu6:
      return saved > T(0) && saved < T(6) ? T(1) : T(0);
    case Activation::sigmoid:
      return saved * (T(1) - saved);
    case Activation::tanh:
      return T(1) - saved * saved;
    case Activation::gelu: {  // Phi(x) + x phi(x)
      const T density = std::exp(saved * saved * T(-0.5)) * T(0.3989422804014327);
      return T(0.5) * (T(1) + std::erf(saved * T(std::numbers::sqrt2 / 2))) + saved * density;
    }
    case Activation::gelu_tanh: {  // with u(x) the argument of tanh: (1 + tanh u) / 2 + x (1 - tanh^2 u) u' / 2
      const T x = saved;
      const T t = std::tanh(T(0.7978845608028654) * (x + T(0.044715) * x * x * x));
      const T slope = T(0.7978845608028654) * (T(1) + T(3 * 0.044715) * x * x);
      return T(0.5) * (T(1) + t) + T(0.5) * x * (T(1) - t * t) * slope;
    }
    case Activation::silu: {  // s + x s (1 - s)
      const T s = T(1) / (T(1) + std::exp(-saved));
      return s * (T(1) + saved * (T(1) - s));
    }
  }
  return T(1);
}

}  // namespace graft::kernels
