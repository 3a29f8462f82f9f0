#include "device/numeric.h"
#include "kernels/activation_math.h"
#include "kernels/elementwise.h"
#include "runtime/launch.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

// Elementwise kernels move bytes and compute nearly nothing: each thread takes 16 bytes at a time, and a last block
// takes what is left over.
template <class T, class Function>
__global__ void activation_kernel(Function function, Index count, const T* x, T* y) {
  constexpr int n = kVector<T>;
  const Index vectors = count / n;
  for (Index i = first_index(); i < vectors; i += index_stride()) {
    Vector<T, n> v = load<n>(x + i * n);
    for (int k = 0; k < n; ++k) v[k] = narrow<T>(function(widen(v[k])));
    store(y + i * n, v);
  }
  for (Index i = vectors * n + first_index(); i < count; i += index_stride()) y[i] = narrow<T>(function(widen(x[i])));
}

struct Activate {
  Activation function;
  template <class S>
  __device__ S operator()(S x) const {
    return activate(function, x);
  }
};

template <class T>
__global__ void activation_backward_kernel(Activation function, Index count, const T* saved, const T* dy, T* dx,
                                           bool accumulate) {
  using Sum = Accumulator<T>;
  for (Index i = first_index(); i < count; i += index_stride()) {
    const Sum slope = widen(dy[i]) * derivative(function, saved != nullptr ? widen(saved[i]) : Sum(0));
    dx[i] = narrow<T>(accumulate ? widen(dx[i]) + slope : slope);
  }
}

template <class T>
__global__ void add_into_kernel(Index count, const T* from, T* to) {
  for (Index i = first_index(); i < count; i += index_stride()) to[i] = narrow<T>(widen(to[i]) + widen(from[i]));
}

template <class From, class To>
__global__ void cast_kernel(Index count, const From* x, To* y, bool accumulate) {
  for (Index i = first_index(); i < count; i += index_stride()) {
    const To value = narrow<To>(widen(x[i]));
    y[i] = accumulate ? narrow<To>(widen(y[i]) + widen(value)) : value;
  }
}

}  // namespace

void activation_forward(Context& context, Activation function, const Operand& x, const Operand& y) {
  dispatch_floating(name(function), x.dtype, [&]<class T>(Type<T>) {
    launch(context, "activation", grid_for(x.elements() / kVector<T> + 1), activation_kernel<T, Activate>,
           Activate{function}, x.elements(), x.as<T>(), y.as<T>());
  });
}

void activation_backward(Context& context, Activation function, const Operand& saved, const Operand& dy, Gradient dx) {
  dispatch_floating(name(function), dy.dtype, [&]<class T>(Type<T>) {
    launch(context, "activation_backward", grid_for(dy.elements()), activation_backward_kernel<T>, function,
           dy.elements(), saved.as<T>(), dy.as<T>(), dx.to.as<T>(), dx.accumulate);
  });
}

void add_into(Context& context, const Operand& from, const Operand& to) {
  dispatch(to.dtype, [&]<class T>(Type<T>) {
    launch(context, "add_into", grid_for(to.elements()), add_into_kernel<T>, to.elements(), from.as<T>(), to.as<T>());
  });
}

void cast(Context& context, const Operand& x, const Operand& y, bool accumulate) {
  dispatch(x.dtype, [&]<class From>(Type<From>) {
    dispatch(y.dtype, [&]<class To>(Type<To>) {
      launch(context, "cast", grid_for(x.elements()), cast_kernel<From, To>, x.elements(), x.as<From>(), y.as<To>(),
             accumulate);
    });
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
