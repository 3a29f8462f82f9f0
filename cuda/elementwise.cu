#include <algorithm>

#include "device/divider.h"
#include "device/numeric.h"
#include "device/unroll.h"
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

// Where the i-th N neighbours of an operand lie: in a range of channels of wider pixels, or simply at i N.
template <int N>
class Position {
 public:
  explicit Position(const Operand& operand)
      : dense_(operand.contiguous()),
        vectors_(std::max<Index>(1, operand.shape.channels() / N)),
        skipped_(operand.pitch - operand.shape.channels()) {}
  __device__ Index operator()(Index i) const {
    return dense_ ? i * N : i * N + vectors_.quotient(static_cast<int>(i)) * skipped_;
  }

 private:
  bool dense_;
  Divider vectors_;
  Index skipped_;
};

// Whether an operand consists of aligned groups of n neighbours.
template <class T>
bool consists_of(int n, const Operand& x) {
  const bool dense = x.contiguous();
  return aligned<T>(x.data, dense ? 0 : x.pitch, n) && (dense ? x.elements() : x.shape.channels()) % n == 0;
}

template <int N, class T>
__global__ void activation_backward_kernel(Activation function, Index vectors, const T* saved, Position<N> saved_at,
                                           const T* dy, Position<N> dy_at, T* dx, Position<N> dx_at, bool accumulate) {
  using Sum = Accumulator<T>;
  for (Index i = first_index(); i < vectors; i += index_stride()) {
    const Vector<T, N> slopes = load<N>(dy + dy_at(i));
    const Vector<T, N> values = saved != nullptr ? load<N>(saved + saved_at(i)) : Vector<T, N>{};
    Sum result[N];
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) result[k] = widen(slopes[k]) * derivative(function, widen(values[k]));
    put(dx + dx_at(i), result, accumulate);
  }
}

template <int N, class T>
__global__ void add_into_kernel(Index vectors, const T* from, Position<N> from_at, T* to, Position<N> to_at) {
  for (Index i = first_index(); i < vectors; i += index_stride()) {
    const Vector<T, N> more = load<N>(from + from_at(i));
    Accumulator<T> values[N];
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) values[k] = widen(more[k]);
    put(to + to_at(i), values, true);
  }
}

template <int N, class From, class To>
__global__ void cast_kernel(Index vectors, const From* x, Position<N> x_at, To* y, Position<N> y_at, bool accumulate) {
  for (Index i = first_index(); i < vectors; i += index_stride()) {
    const Vector<From, N> from = load<N>(x + x_at(i));
    Vector<To, N> to;
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) to[k] = narrow<To>(widen(from[k]));
    To* const at = y + y_at(i);
    if (accumulate) {
      const Vector<To, N> there = load<N>(at);
      GRAFT_UNROLL
      for (int k = 0; k < N; ++k) to[k] = narrow<To>(widen(there[k]) + widen(to[k]));
    }
    store(at, to);
  }
}

template <class T>
__global__ void activation_range_kernel(Activation function, Index count, const T* x, Position<1> x_at, T* y,
                                        Position<1> y_at) {
  for (Index i = first_index(); i < count; i += index_stride())
    y[y_at(i)] = narrow<T>(activate(function, widen(x[x_at(i)])));
}

}  // namespace

void activation_forward(Context& context, Activation function, const Operand& x, const Operand& y) {
  dispatch_floating(name(function), x.dtype, [&]<class T>(Type<T>) {
    if (!x.contiguous() || !y.contiguous()) {
      launch(context, "activation", grid_for(x.elements()), activation_range_kernel<T>, function, x.elements(),
             x.as<T>(), Position<1>(x), y.as<T>(), Position<1>(y));
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
    const Operand& values = saved ? saved : dy;
    constexpr int n = kVector<T>;
    const bool fit = consists_of<T>(n, values) && consists_of<T>(n, dy) && consists_of<T>(n, dx.to);
    with_vectors<T>(fit, [&]<int N>(std::integral_constant<int, N>) {
      const Index vectors = dy.elements() / N;
      launch(context, "activation_backward", grid_for(vectors), activation_backward_kernel<N, T>, function, vectors,
             saved.as<T>(), Position<N>(values), dy.as<T>(), Position<N>(dy), dx.to.as<T>(), Position<N>(dx.to),
             dx.accumulate);
    });
  });
}

void add_into(Context& context, const Operand& from, const Operand& to) {
  dispatch(to.dtype, [&]<class T>(Type<T>) {
    with_vectors<T>(consists_of<T>(kVector<T>, from) && consists_of<T>(kVector<T>, to),
                    [&]<int N>(std::integral_constant<int, N>) {
                      const Index vectors = to.elements() / N;
                      launch(context, "add_into", grid_for(vectors), add_into_kernel<N, T>, vectors, from.as<T>(),
                             Position<N>(from), to.as<T>(), Position<N>(to));
                    });
  });
}

void cast(Context& context, const Operand& x, const Operand& y, bool accumulate) {
  dispatch(x.dtype, [&]<class From>(Type<From>) {
    dispatch(y.dtype, [&]<class To>(Type<To>) {
      using Wider =
          std::conditional_t<(sizeof(From) > sizeof(To)), From, To>;  // 16 bytes of it, and fewer of the other
      with_vectors<Wider>(consists_of<From>(kVector<Wider>, x) && consists_of<To>(kVector<Wider>, y),
                          [&]<int N>(std::integral_constant<int, N>) {
                            const Index vectors = x.elements() / N;
                            launch(context, "cast", grid_for(vectors), cast_kernel<N, From, To>, vectors, x.as<From>(),
                                   Position<N>(x), y.as<To>(), Position<N>(y), accumulate);
                          });
    });
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
