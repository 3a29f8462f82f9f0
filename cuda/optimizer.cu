#include <cmath>

#include "device/numeric.h"
#include "device/reduce.h"
#include "kernels/optimizer.h"
#include "runtime/launch.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

constexpr int kThreads = 256;

// The step of one element: a gradient, a parameter, and the numbers kept from step to step.
template <class T>
struct Sgd {
  T rate, decay, scale;

  explicit Sgd(const SgdUpdate& u)
      : rate(static_cast<T>(u.rate)), decay(static_cast<T>(u.decay)), scale(static_cast<T>(u.gradient_scale)) {}

  __device__ void operator()(T g, T& w) const { w -= rate * (g * scale + decay * w); }
};

template <class T>
struct SgdWithMomentum {
  T rate, decay, scale, momentum;
  T now, ahead;  // the step is now * slope + ahead * v

  explicit SgdWithMomentum(const SgdUpdate& u)
      : rate(static_cast<T>(u.rate)),
        decay(static_cast<T>(u.decay)),
        scale(static_cast<T>(u.gradient_scale)),
        momentum(static_cast<T>(u.momentum)),
        now(u.nesterov ? T(1) : T(0)),
        ahead(u.nesterov ? momentum : T(1)) {}

  __device__ void operator()(T g, T& w, T& v) const {
    const T slope = g * scale + decay * w;
    v = momentum * v + slope;
    w -= rate * (now * slope + ahead * v);
  }
};

template <class T>
struct Adam {
  T beta1, rest1, beta2, rest2, rate, root, epsilon, scale, coupled, keep;

  explicit Adam(const AdamUpdate& u)
      : beta1(static_cast<T>(u.beta1)),
        rest1(static_cast<T>(1 - u.beta1)),
        beta2(static_cast<T>(u.beta2)),
        rest2(static_cast<T>(1 - u.beta2)),
        rate(static_cast<T>(u.rate / u.correction1)),
        root(static_cast<T>(1 / std::sqrt(u.correction2))),
        epsilon(static_cast<T>(u.epsilon)),
        scale(static_cast<T>(u.gradient_scale)),
        coupled(static_cast<T>(u.decoupled ? 0 : u.decay)),
        keep(static_cast<T>(u.decoupled ? 1 - u.rate * u.decay : 1)) {}

  __device__ void operator()(T g, T& w, T& m, T& s) const {
    const T weight = w * keep, slope = g * scale + coupled * weight;
    m = beta1 * m + rest1 * slope;
    s = beta2 * s + rest2 * slope * slope;
    w = weight - rate * m / (std::sqrt(s) * root + epsilon);
  }
};

template <int N, class T, class Step, class... State>
__device__ void update(const Step& step, Index at, const T* g, T* w, State*... state) {
  const Vector<T, N> gradient = load<N>(g + at);
  Vector<T, N> weight = load<N>(w + at);
  const auto with = [&](auto... vectors) {
    for (int i = 0; i < N; ++i) step(gradient[i], weight[i], vectors[i]...);
    (store(state + at, vectors), ...);
  };
  with(load<N>(state + at)...);
  store(w + at, weight);
}

// Adam reads four numbers and writes three for a dozen operations, SGD fewer: the kernel runs at the speed of memory,
// and its traffic is what one pass over gradient, parameter and state needs.
template <int N, class T, class Step, class... State>
__global__ void update_kernel(Step step, Index count, const T* g, T* w, State*... state) {
  const Index vectors = count / N;
  for (Index i = first_index(); i < vectors; i += index_stride()) update<N>(step, i * N, g, w, state...);
  for (Index i = vectors * N + first_index(); i < count; i += index_stride()) update<1>(step, i, g, w, state...);
}

template <class T, class Step, class... State>
void launch_update(Context& context, const char* name, const Step& step, const Operand& g, const Operand& w,
                   State*... state) {
  constexpr int n = kVector<T>;
  const bool vectors = aligned<T>(g.data, 0, n) && aligned<T>(w.data, 0, n) && (aligned<T>(state, 0, n) && ...);
  launch(context, name, grid_for((w.elements() + n - 1) / n, kThreads),
         vectors ? update_kernel<n, T, Step, State...> : update_kernel<1, T, Step, State...>, step, w.elements(),
         g.as<T>(), w.as<T>(), state...);
}

// Sums in f64, for f32 too: the squares of a hundred million gradients lose nothing.
template <int N, class T>
__global__ void sum_squares_kernel(Index count, const T* x, double* partial) {
  double sum = 0;
  const Index vectors = count / N;
  for (Index i = first_index(); i < vectors; i += index_stride()) {
    const Vector<T, N> v = load<N>(x + i * N);
    for (int k = 0; k < N; ++k) sum += static_cast<double>(v[k]) * static_cast<double>(v[k]);
  }
  for (Index i = vectors * N + first_index(); i < count; i += index_stride())
    sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  sum = block_reduce<kThreads>(sum, Plus{});
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void add_parts_kernel(int parts, const double* partial, double* sum) {
  double total = 0;
  for (int part = static_cast<int>(threadIdx.x); part < parts; part += kThreads) total += partial[part];
  total = block_reduce<kThreads>(total, Plus{});
  if (threadIdx.x == 0) *sum += total;
}

// The optimizer takes parameters of these types alone.
template <class Body>
void with_type(DType dtype, const Body& body) {
  if (dtype == DType::f64)
    body(Type<double>{});
  else
    body(Type<float>{});
}

}  // namespace

void sgd_update(Context& context, const SgdUpdate& u, const Operand& g, const Operand& w, const Operand& v) {
  with_type(w.dtype, [&]<class T>(Type<T>) {
    if (v)
      launch_update<T>(context, "sgd_update", SgdWithMomentum<T>(u), g, w, v.as<T>());
    else
      launch_update<T>(context, "sgd_update", Sgd<T>(u), g, w);
  });
}

void adam_update(Context& context, const AdamUpdate& u, const Operand& g, const Operand& w, const Operand& m,
                 const Operand& s) {
  with_type(w.dtype, [&]<class T>(Type<T>) {
    launch_update<T>(context, "adam_update", Adam<T>(u), g, w, m.as<T>(), s.as<T>());
  });
}

void sum_squares(Context& context, const Operand& x, const Operand& sum) {
  with_type(x.dtype, [&]<class T>(Type<T>) {
    constexpr int n = kVector<T>;
    const LaunchShape grid = grid_for((x.elements() + n - 1) / n, kThreads);
    const Tensor partial = Tensor::empty(Shape{static_cast<Index>(grid.grid.x)}, DType::f64, context.device);
    auto* parts = static_cast<double*>(partial.raw());
    launch(context, "sum_squares", grid, aligned<T>(x.data, 0, n) ? sum_squares_kernel<n, T> : sum_squares_kernel<1, T>,
           x.elements(), x.as<T>(), parts);
    launch(context, "sum_squares", {.grid = dim3(1), .block = dim3(kThreads)}, add_parts_kernel,
           static_cast<int>(grid.grid.x), parts, sum.as<double>());
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
