#include "kernels/optimizer.h"

#include <cmath>
#include <vector>

#include "core/dtype_dispatch.h"
#include "core/format.h"
#include "core/parallel.h"
#include "cpu/vector_ops.h"

// Each kernel is a loop over a range of elements, compiled for f32 and f64 and for several instruction sets.
namespace graft::kernels::cpu {
namespace {

constexpr Index kGrain = 1 << 14;  // elements a task: long enough to pay for waking a thread

template <class T>
[[gnu::always_inline]] inline void sgd(const SgdUpdate& u, const T* g, T* w, T* v, Index count) {
  const T rate = static_cast<T>(u.rate), decay = static_cast<T>(u.decay), scale = static_cast<T>(u.gradient_scale);
  const T momentum = static_cast<T>(u.momentum);
  if (v == nullptr) {
#pragma omp simd
    for (Index i = 0; i < count; ++i) w[i] -= rate * (g[i] * scale + decay * w[i]);
    return;
  }
  const T now = u.nesterov ? T(1) : T(0), ahead = u.nesterov ? momentum : T(1);  // the step is now * slope + ahead * v
#pragma omp simd
  for (Index i = 0; i < count; ++i) {
    const T slope = g[i] * scale + decay * w[i];
    v[i] = momentum * v[i] + slope;
    w[i] -= rate * (now * slope + ahead * v[i]);
  }
}

template <class T>
[[gnu::always_inline]] inline void adam(const AdamUpdate& u, const T* g, T* w, T* m, T* s, Index count) {
  const T beta1 = static_cast<T>(u.beta1), rest1 = static_cast<T>(1 - u.beta1);
  const T beta2 = static_cast<T>(u.beta2), rest2 = static_cast<T>(1 - u.beta2);
  const T rate = static_cast<T>(u.rate / u.correction1), epsilon = static_cast<T>(u.epsilon);
  const T root = static_cast<T>(1 / std::sqrt(u.correction2)), scale = static_cast<T>(u.gradient_scale);
  const T coupled = static_cast<T>(u.decoupled ? 0 : u.decay);
  const T keep = static_cast<T>(u.decoupled ? 1 - u.rate * u.decay : 1);
#pragma omp simd
  for (Index i = 0; i < count; ++i) {
    const T weight = w[i] * keep, slope = g[i] * scale + coupled * weight;
    m[i] = beta1 * m[i] + rest1 * slope;
    s[i] = beta2 * s[i] + rest2 * slope * slope;
    w[i] = weight - rate * m[i] / (std::sqrt(s[i]) * root + epsilon);
  }
}

template <class T>
[[gnu::always_inline]] inline double squares(const T* x, Index count) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Index i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

GRAFT_CPU_CLONES void run(const SgdUpdate& u, const float* g, float* w, float* v, Index n) { sgd(u, g, w, v, n); }
GRAFT_CPU_CLONES void run(const SgdUpdate& u, const double* g, double* w, double* v, Index n) { sgd(u, g, w, v, n); }
GRAFT_CPU_CLONES void run(const AdamUpdate& u, const float* g, float* w, float* m, float* s, Index n) {
  adam(u, g, w, m, s, n);
}
GRAFT_CPU_CLONES void run(const AdamUpdate& u, const double* g, double* w, double* m, double* s, Index n) {
  adam(u, g, w, m, s, n);
}
GRAFT_CPU_CLONES double run(const float* x, Index n) { return squares(x, n); }
GRAFT_CPU_CLONES double run(const double* x, Index n) { return squares(x, n); }

// The type of a parameter, its gradient and its state.
template <class Body>
void with_type(std::string_view what, DType dtype, Body&& body) {
  if (dtype == DType::f32) return body(Type<float>{});
  if (dtype == DType::f64) return body(Type<double>{});
  fail("[{}] is for f32 and f64, got {}", what, dtype);
}

}  // namespace

void sgd_update(Context&, const SgdUpdate& u, const Operand& g, const Operand& w, const Operand& v) {
  with_type("sgd_update", w.dtype, [&]<class T>(Type<T>) {
    parallel_ranges(w.elements(), kGrain, [&](Index begin, Index end) {
      run(u, g.as<T>() + begin, w.as<T>() + begin, v ? v.as<T>() + begin : nullptr, end - begin);
    });
  });
}

void adam_update(Context&, const AdamUpdate& u, const Operand& g, const Operand& w, const Operand& m,
                 const Operand& s) {
  with_type("adam_update", w.dtype, [&]<class T>(Type<T>) {
    parallel_ranges(w.elements(), kGrain, [&](Index begin, Index end) {
      run(u, g.as<T>() + begin, w.as<T>() + begin, m.as<T>() + begin, s.as<T>() + begin, end - begin);
    });
  });
}

void sum_squares(Context&, const Operand& x, const Operand& sum) {
  std::vector<double> partial(static_cast<std::size_t>((x.elements() + kGrain - 1) / kGrain));
  with_type("sum_squares", x.dtype, [&]<class T>(Type<T>) {
    parallel_ranges(x.elements(), kGrain, [&](Index begin, Index end) {
      partial[static_cast<std::size_t>(begin / kGrain)] = run(x.as<T>() + begin, end - begin);
    });
  });
  for (const double part : partial) *sum.as<double>() += part;
}

}  // namespace graft::kernels::cpu
