#include "cpu/activate_row.h"

#include <type_traits>

#include "cpu/vector_math.h"

namespace graft::cpu {
namespace {

template <Activation kFunction>
using Function = std::integral_constant<Activation, kFunction>;

// Calls body(Function<f>) for the function that is asked for: a loop for each of them, so that it becomes vector
// instructions.
template <class Body>
GRAFT_INLINE inline void with_constant(Activation function, const Body& body) {
  switch (function) {
    case Activation::linear:
      return body(Function<Activation::linear>{});
    case Activation::relu:
      return body(Function<Activation::relu>{});
    case Activation::relu6:
      return body(Function<Activation::relu6>{});
    case Activation::sigmoid:
      return body(Function<Activation::sigmoid>{});
    case Activation::tanh:
      return body(Function<Activation::tanh>{});
    case Activation::gelu:
      return body(Function<Activation::gelu>{});
    case Activation::gelu_tanh:
      return body(Function<Activation::gelu_tanh>{});
    case Activation::silu:
      return body(Function<Activation::silu>{});
  }
}

template <class T>
GRAFT_INLINE inline void slopes_of(Activation function, const T* saved, const T* dy, T* dx, Index count,
                                   bool accumulate) {
  with_constant(function, [&](auto f) GRAFT_INLINE {
    constexpr Activation kFunction = decltype(f)::value;
    const auto slope = [&](Index i) GRAFT_INLINE {
      return static_cast<float>(dy[i]) *
             derivative<kFunction>(kFunction == Activation::linear ? 0.f : static_cast<float>(saved[i]));
    };
    put_each<float>(dx, count, accumulate, slope);
  });
}

}  // namespace

GRAFT_CPU_CLONES void activate_row(Activation function, float* values, Index count) {
  if (function == Activation::linear) return;
  with_constant(function, [&](auto f) GRAFT_INLINE {
#pragma omp simd
    for (Index i = 0; i < count; ++i) values[i] = activate<decltype(f)::value>(values[i]);
  });
}

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
  for (Index i = 0; i < count; ++i) values[i] = kernels::activate(function, values[i]);
}

}  // namespace graft::cpu
