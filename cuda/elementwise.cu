#include "device/numeric.h"
#include "kernels/activation_math.h"
#include "kernels/elementwise.h"
#include "runtime/launch.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

// Elementwise kernels move bytes and compute nearly nothing: each thread takes 16 bytes at a time where they are
// aligned, and the first threads take what is left over.
template <int N, class T>
__global__ void activation_kernel(Activation function, Index count, const T* x, T* y) {
  const Index vectors = count / N;
  for (Index i = first_index(); i < vectors; i += index_stride()) {
    Vector<T, N> v = load<N>(x + i * N);
    for (int k = 0; k < N; ++k) v[k] = narrow<T>(activate(function, widen(v[k])));
    store(y + i * N, v);
  }
  for (Index i = vectors * N + first_index(); i < count; i += index_stride())
    y[i] = narrow<T>(activate(function, widen(x[i])));
}

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
    const bool fit = aligned<T>(x.data, 0, kVector<T>) && aligned<T>(y.data, 0, kVector<T>);
    with_vectors<T>(fit, [&](auto vector) {
      constexpr int N = decltype(vector)::value;
      launch(context, "activation", grid_for(x.elements() / N + 1), activation_kernel<N, T>, function, x.elements(),
             x.as<T>(), y.as<T>());
    });
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
