#include <cmath>

#include "device/numeric.h"
#include "device/reduce.h"
#include "kernels/step_control.h"
#include "runtime/launch.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

constexpr int kThreads = 256;

// The step of one element: a gradient, a parameter, and the numbers kept from step to step.
template <class T>
struct Sgd {
  T rate, decay, scale;

  __device__ Sgd(const SgdRule&, const UpdateRow& row, double scaling)
      : rate(static_cast<T>(row.rate)), decay(static_cast<T>(row.decay)), scale(static_cast<T>(scaling)) {}

  __device__ void operator()(T g, T& w) const { w -= rate * (g * scale + decay * w); }
};

template <class T>
struct SgdWithMomentum {
  T rate, decay, scale, momentum;
  T now, ahead;  // the step is now * slope + ahead * v

  __device__ SgdWithMomentum(const SgdRule& rule, const UpdateRow& row, double scaling)
      : rate(static_cast<T>(row.rate)),
        decay(static_cast<T>(row.decay)),
        scale(static_cast<T>(scaling)),
        momentum(static_cast<T>(rule.momentum)),
        now(rule.nesterov ? T(1) : T(0)),
        ahead(rule.nesterov ? momentum : T(1)) {}

  __device__ void operator()(T g, T& w, T& v) const {
    const T slope = g * scale + decay * w;
    v = momentum * v + slope;
    w -= rate * (now * slope + ahead * v);
  }
};

template <class T>
struct Adam {
  T beta1, rest1, beta2, rest2, rate, root, epsilon, scale, coupled, keep;

  __device__ Adam(const AdamRule& rule, const UpdateRow& row, double scaling)
      : beta1(static_cast<T>(rule.beta1)),
        rest1(static_cast<T>(1 - rule.beta1)),
        beta2(static_cast<T>(rule.beta2)),
        rest2(static_cast<T>(1 - rule.beta2)),
        rate(static_cast<T>(row.rate / row.correction1)),
        root(static_cast<T>(1 / std::sqrt(row.correction2))),
        epsilon(static_cast<T>(rule.epsilon)),
        scale(static_cast<T>(scaling)),
        coupled(static_cast<T>(rule.decoupled ? 0 : row.decay)),
        keep(static_cast<T>(rule.decoupled ? 1 - row.rate * row.decay : 1)) {}

  __device__ void operator()(T g, T& w, T& m, T& s) const {
    const T weight = w * keep, slope = g * scale + coupled * weight;
    m = beta1 * m + rest1 * slope;
    s = beta2 * s + rest2 * slope * slope;
    w = weight - rate * m / (std::sqrt(s) * root + epsilon);
  }
};

// The row that a chunk belongs to: the last one that begins at or before it.
__device__ const UpdateRow& row_of(const UpdateTable& table, Index chunk) {
  Index low = 0, high = table.count;
  while (high - low > 1) {
    const Index middle = (low + high) / 2;
    (table.rows[middle].first_chunk <= chunk ? low : high) = middle;
  }
  return table.rows[low];
}

// Whether all tensors that are there begin at multiples of 16 bytes; a chunk of one that does begins there too.
template <class... Pointer>
__device__ bool on_vectors(Pointer... tensors) {
  return ((reinterpret_cast<std::uintptr_t>(tensors) | ...) & 15) == 0;
}

// The part of a tensor that a block works on.
struct Chunk {
  Index first, count;

  __device__ Chunk(const UpdateRow& row, Index chunk)
      : first((chunk - row.first_chunk) * UpdateTable::kChunk),
        count(row.elements - first < UpdateTable::kChunk ? row.elements - first : UpdateTable::kChunk) {}
};

template <int N, class T>
__device__ void put_rounded(const UpdateRow& row, Index at, const Vector<T, N>& weight) {
  if (row.rounded == nullptr) return;
  const auto put = [&]<class Half>(Half* to) {
    Vector<Half, N> rounded;
    for (int i = 0; i < N; ++i) rounded[i] = narrow<Half>(static_cast<float>(weight[i]));
    store(to + at, rounded);
  };
  if (row.rounded_dtype == DType::bf16)
    put(static_cast<bfloat16*>(row.rounded));
  else
    put(static_cast<float16*>(row.rounded));
}

// Neighbours at `at`: N gradients, weights and numbers of each of the states.
template <int N, class T, class Step, class... State>
__device__ void update(const Step& step, const UpdateRow& row, Index at, State*... state) {
  T* const w = static_cast<T*>(row.weight);
  const Vector<T, N> gradient = load<N>(static_cast<const T*>(row.gradient) + at);
  Vector<T, N> weight = load<N>(w + at);
  const auto with = [&](auto... vectors) {
    for (int i = 0; i < N; ++i) step(gradient[i], weight[i], vectors[i]...);
    (store(state + at, vectors), ...);
  };
  with(load<N>(state + at)...);
  store(w + at, weight);
  put_rounded(row, at, weight);
}

// A block takes one chunk of one tensor. Adam reads four numbers and writes three for a dozen operations, SGD fewer:
// the kernel runs at the speed of memory, and its traffic is what one pass over gradient, parameter and state needs.
template <class T, class Step, int States, class Rule>
__global__ void update_kernel(const Rule rule, const UpdateTable table, const StepControl* control) {
  const double scaling = control == nullptr ? 1. : control->gradient_scale;
  if (control != nullptr && control->applies == 0) return;
  const Index number = static_cast<Index>(blockIdx.x);
  const UpdateRow& row = row_of(table, number);
  const Chunk chunk(row, number);
  const Step step(rule, row, scaling);
  const auto one = [&]<int N>(std::integral_constant<int, N>, Index at) {
    if constexpr (States == 0) update<N, T>(step, row, at);
    if constexpr (States == 1) update<N, T>(step, row, at, static_cast<T*>(row.first));
    if constexpr (States == 2) update<N, T>(step, row, at, static_cast<T*>(row.first), static_cast<T*>(row.second));
  };
  constexpr int n = kVector<T>;
  const bool wide = on_vectors(row.gradient, row.weight, row.first, row.second);
  const Index vectors = wide ? chunk.count / n : 0, end = chunk.first + chunk.count;
  for (Index i = threadIdx.x; i < vectors; i += kThreads) one(std::integral_constant<int, n>{}, chunk.first + i * n);
  for (Index at = chunk.first + vectors * n + threadIdx.x; at < end; at += kThreads)
    one(std::integral_constant<int, 1>{}, at);
}

// A part of the sum for each chunk, in f64, for f32 too: the squares of a hundred million gradients lose nothing.
template <class T>
__global__ void sum_squares_kernel(const UpdateTable table, double* partial) {
  const Index number = static_cast<Index>(blockIdx.x);
  const UpdateRow& row = row_of(table, number);
  const Chunk chunk(row, number);
  const T* const x = static_cast<const T*>(row.gradient) + chunk.first;
  double sum = 0;
  const auto add = [&](T value) { sum += static_cast<double>(value) * static_cast<double>(value); };
  constexpr int n = kVector<T>;
  const Index vectors = on_vectors(x) ? chunk.count / n : 0;
  for (Index i = threadIdx.x; i < vectors; i += kThreads) {
    const Vector<T, n> v = load<n>(x + i * n);
    for (int k = 0; k < n; ++k) add(v[k]);
  }
  for (Index i = vectors * n + threadIdx.x; i < chunk.count; i += kThreads) add(x[i]);
  sum = block_reduce<kThreads>(sum, Plus{});
  if (threadIdx.x == 0) partial[number] = sum;
}

__global__ void add_parts_kernel(Index parts, const double* partial, double* sum) {
  double total = 0;
  for (Index part = threadIdx.x; part < parts; part += kThreads) total += partial[part];
  total = block_reduce<kThreads>(total, Plus{});
  if (threadIdx.x == 0) *sum += total;
}

template <class T>
__global__ void decide_step_kernel(StepRule rule, const double* squares, const T* loss, StepControl* control) {
  *control = decide(rule, *control, *squares, loss == nullptr ? 0. : static_cast<double>(*loss));
}

// The optimizer takes parameters of these types alone.
template <class Body>
void with_type(DType dtype, const Body& body) {
  if (dtype == DType::f64)
    body(Type<double>{});
  else
    body(Type<float>{});
}

LaunchShape block_a_chunk(const UpdateTable& table) {
  return {.grid = dim3(static_cast<unsigned>(table.chunks)), .block = dim3(kThreads)};
}

}  // namespace

void sgd_update(Context& context, const SgdRule& rule, const UpdateTable& table, const Operand& control) {
  with_type(table.dtype, [&]<class T>(Type<T>) {
    launch(context, "sgd_update", block_a_chunk(table),
           rule.momentum > 0 ? update_kernel<T, SgdWithMomentum<T>, 1, SgdRule> : update_kernel<T, Sgd<T>, 0, SgdRule>,
           rule, table, control.as<const StepControl>());
  });
}

void adam_update(Context& context, const AdamRule& rule, const UpdateTable& table, const Operand& control) {
  with_type(table.dtype, [&]<class T>(Type<T>) {
    launch(context, "adam_update", block_a_chunk(table), update_kernel<T, Adam<T>, 2, AdamRule>, rule, table,
           control.as<const StepControl>());
  });
}

void sum_squares(Context& context, const UpdateTable& table, const Operand& sum) {
  if (table.chunks == 0) return;
  const Tensor partial = Tensor::empty(Shape{table.chunks}, DType::f64, context.device);
  auto* parts = static_cast<double*>(partial.raw());
  with_type(table.dtype, [&]<class T>(Type<T>) {
    launch(context, "sum_squares", block_a_chunk(table), sum_squares_kernel<T>, table, parts);
  });
  launch(context, "sum_squares", {.grid = dim3(1), .block = dim3(kThreads)}, add_parts_kernel, table.chunks, parts,
         sum.as<double>());
}

void decide_step(Context& context, const StepRule& rule, const Operand& squares, const Operand& loss,
                 const Operand& control) {
  with_type(loss ? loss.dtype : DType::f32, [&]<class T>(Type<T>) {
    launch(context, "decide_step", {.grid = dim3(1), .block = dim3(1)}, decide_step_kernel<T>, rule,
           squares.as<const double>(), loss.as<const T>(), control.as<StepControl>());
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
