#include <algorithm>

#include "device/divider.h"
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

// Where element i of an operand lies: in a range of channels of wider pixels, or simply at i.
class Position {
 public:
  explicit Position(const Operand& operand)
      : dense_(operand.contiguous()),
        channels_(std::max<Index>(1, operand.shape.channels())),
        skipped_(operand.pitch - operand.shape.channels()) {}
  __device__ Index operator()(Index i) const {
    return dense_ ? i : i + channels_.quotient(static_cast<int>(i)) * skipped_;
  }

 private:
  bool dense_;
  Divider channels_;
  Index skipped_;
};

template <class T>
__global__ void activation_backward_kernel(Activation function, Index count, const T* saved, Position saved_at,
                                           const T* dy, Position dy_at, T* dx, Position dx_at, bool accumulate) {
  using Sum = Accumulator<T>;
  for (Index i = first_index(); i < count; i += index_stride()) {
    const Sum slope = widen(dy[dy_at(i)]) * derivative(function, saved != nullptr ? widen(saved[saved_at(i)]) : Sum(0));
    const Index to = dx_at(i);
    dx[to] = narrow<T>(accumulate ? widen(dx[to]) + slope : slope);
  }
}

template <class T>
__global__ void add_into_kernel(Index count, const T* from, Position from_at, T* to, Position to_at) {
  for (Index i = first_index(); i < count; i += index_stride()) {
    const Index at = to_at(i);
    to[at] = narrow<T>(widen(to[at]) + widen(from[from_at(i)]));
  }
}

template <class From, class To>
__global__ void cast_kernel(Index count, const From* x, Position x_at, To* y, Position y_at, bool accumulate) {
  for (Index i = first_index(); i < count; i += index_stride()) {
    const To value = narrow<To>(widen(x[x_at(i)]));
    const Index to = y_at(i);
    y[to] = accumulate ? narrow<To>(widen(y[to]) + widen(value)) : value;
  }
}

template <class T>
__global__ void activation_range_kernel(Activation function, Index count, const T* x, Position x_at, T* y,
                                        Position y_at) {
  for (Index i = first_index(); i < count; i += index_stride())
    y[y_at(i)] = narrow<T>(activate(function, widen(x[x_at(i)])));
}

}  // namespace

void activation_forward(Context& context, Activation function, const Operand& x, const Operand& y) {
  dispatch_floating(name(function), x.dtype, [&]<class T>(Type<T>) {
    if (!x.contiguous() || !y.contiguous()) {
      launch(context, "activation", grid_for(x.elements()), activation_range_kernel<T>, function, x.elements(),
             x.as<T>(), Position(x), y.as<T>(), Position(y));
      return;
    }
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
           dy.elements(), saved.as<T>(), Position(saved ? saved : dy), dy.as<T>(), Position(dy), dx.to.as<T>(),
           Position(dx.to), dx.accumulate);
  });
}

void add_into(Context& context, const Operand& from, const Operand& to) {
  dispatch(to.dtype, [&]<class T>(Type<T>) {
    launch(context, "add_into", grid_for(to.elements()), add_into_kernel<T>, to.elements(), from.as<T>(),
           Position(from), to.as<T>(), Position(to));
  });
}

void cast(Context& context, const Operand& x, const Operand& y, bool accumulate) {
  dispatch(x.dtype, [&]<class From>(Type<From>) {
    dispatch(y.dtype, [&]<class To>(Type<To>) {
      launch(context, "cast", grid_for(x.elements()), cast_kernel<From, To>, x.elements(), x.as<From>(), Position(x),
             y.as<To>(), Position(y), accumulate);
    });
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
