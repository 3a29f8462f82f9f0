#include "kernels/optimizer.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "core/dtype_dispatch.h"
#include "core/format.h"
#include "core/parallel.h"
#include "cpu/vector_ops.h"
#include "kernels/step_control.h"

// Each kernel is a loop over a range of elements, compiled for f32 and f64 and for several instruction sets.
namespace graft::kernels::cpu {
namespace {

template <class T>
[[gnu::always_inline]] inline void sgd(const SgdRule& rule, const UpdateRow& row, double scaling, const T* g, T* w,
                                       T* v, Index count) {
  const T rate = static_cast<T>(row.rate), decay = static_cast<T>(row.decay), scale = static_cast<T>(scaling);
  const T momentum = static_cast<T>(rule.momentum);
  if (v == nullptr) {
#pragma omp simd
    for (Index i = 0; i < count; ++i) w[i] -= rate * (g[i] * scale + decay * w[i]);
    return;
  }
  const T now = rule.nesterov ? T(1) : T(0), ahead = rule.nesterov ? momentum : T(1);  // now * slope + ahead * v
#pragma omp simd
  for (Index i = 0; i < count; ++i) {
    const T slope = g[i] * scale + decay * w[i];
    v[i] = momentum * v[i] + slope;
    w[i] -= rate * (now * slope + ahead * v[i]);
  }
}

template <class T>
[[gnu::always_inline]] inline void adam(const AdamRule& rule, const UpdateRow& row, double scaling, const T* g, T* w,
                                        T* m, T* s, Index count) {
  const T beta1 = static_cast<T>(rule.beta1), rest1 = static_cast<T>(1 - rule.beta1);
  const T beta2 = static_cast<T>(rule.beta2), rest2 = static_cast<T>(1 - rule.beta2);
  const T rate = static_cast<T>(row.rate / row.correction1), epsilon = static_cast<T>(rule.epsilon);
  const T root = static_cast<T>(1 / std::sqrt(row.correction2)), scale = static_cast<T>(scaling);
  const T coupled = static_cast<T>(rule.decoupled ? 0 : row.decay);
  const T keep = static_cast<T>(rule.decoupled ? 1 - row.rate * row.decay : 1);
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

GRAFT_CPU_CLONES void run(const SgdRule& r, const UpdateRow& u, double k, const float* g, float* w, float* v, Index n) {
  sgd(r, u, k, g, w, v, n);
}
GRAFT_CPU_CLONES void run(const SgdRule& r, const UpdateRow& u, double k, const double* g, double* w, double* v,
                          Index n) {
  sgd(r, u, k, g, w, v, n);
}
GRAFT_CPU_CLONES void run(const AdamRule& r, const UpdateRow& u, double k, const float* g, float* w, float* m, float* s,
                          Index n) {
  adam(r, u, k, g, w, m, s, n);
}
GRAFT_CPU_CLONES void run(const AdamRule& r, const UpdateRow& u, double k, const double* g, double* w, double* m,
                          double* s, Index n) {
  adam(r, u, k, g, w, m, s, n);
}
GRAFT_CPU_CLONES double run(const float* x, Index n) { return squares(x, n); }
GRAFT_CPU_CLONES double run(const double* x, Index n) { return squares(x, n); }

// Calls body(Type, row, first element, elements, number) for every chunk of the table, in parallel.
template <class Body>
void for_each_chunk(std::string_view what, const UpdateTable& table, const Body& body) {
  const auto run = [&](auto type) {
    parallel_for(table.chunks, [&](Index chunk) {
      const UpdateRow* row = std::upper_bound(table.rows, table.rows + table.count, chunk,
                                              [](Index at, const UpdateRow& r) { return at < r.first_chunk; }) -
                             1;
      const Index first = (chunk - row->first_chunk) * UpdateTable::kChunk;
      body(type, *row, first, std::min(UpdateTable::kChunk, row->elements - first), chunk);
    });
  };
  if (table.dtype == DType::f32) return run(Type<float>{});
  if (table.dtype == DType::f64) return run(Type<double>{});
  fail("[{}] is for f32 and f64, got {}", what, table.dtype);
}

template <class T>
T* at(void* tensor, Index first) {
  return tensor == nullptr ? nullptr : static_cast<T*>(tensor) + first;
}

template <class T>
void round(const UpdateRow& row, Index first, Index count) {
  if (row.rounded == nullptr) return;
  dispatch_floating("round", row.rounded_dtype, [&]<class Half>(Type<Half>) {
    const T* from = at<T>(row.weight, first);
    for (Index i = 0; i < count; ++i) at<Half>(row.rounded, first)[i] = convert<Half>(from[i]);
  });
}

// The factor of the gradients; nothing if the step is left out.
std::optional<double> scaling_of(const Operand& control) {
  if (!control) return 1.;
  const auto& decided = *control.as<const StepControl>();
  return decided.applies != 0 ? std::optional(decided.gradient_scale) : std::nullopt;
}

}  // namespace

void sgd_update(Context&, const SgdRule& rule, const UpdateTable& table, const Operand& control) {
  const auto scaling = scaling_of(control);
  if (!scaling) return;
  for_each_chunk("sgd_update", table, [&]<class T>(Type<T>, const UpdateRow& row, Index first, Index count, Index) {
    run(rule, row, *scaling, at<T>(row.gradient, first), at<T>(row.weight, first), at<T>(row.first, first), count);
    round<T>(row, first, count);
  });
}

void adam_update(Context&, const AdamRule& rule, const UpdateTable& table, const Operand& control) {
  const auto scaling = scaling_of(control);
  if (!scaling) return;
  for_each_chunk("adam_update", table, [&]<class T>(Type<T>, const UpdateRow& row, Index first, Index count, Index) {
    run(rule, row, *scaling, at<T>(row.gradient, first), at<T>(row.weight, first), at<T>(row.first, first),
        at<T>(row.second, first), count);
    round<T>(row, first, count);
  });
}

void sum_squares(Context&, const UpdateTable& table, const Operand& sum) {
  std::vector<double> partial(static_cast<std::size_t>(table.chunks));
  for_each_chunk("sum_squares", table,
                 [&]<class T>(Type<T>, const UpdateRow& row, Index first, Index count, Index chunk) {
                   partial[static_cast<std::size_t>(chunk)] = run(at<T>(row.gradient, first), count);
                 });
  for (const double part : partial) *sum.as<double>() += part;
}

void decide_step(Context&, const StepRule& rule, const Operand& squares, const Operand& loss, const Operand& control) {
  const double value = !loss ? 0. : loss.dtype == DType::f64 ? *loss.as<double>() : *loss.as<float>();
  auto& decided = *control.as<StepControl>();
  decided = decide(rule, decided, *squares.as<double>(), value);
}

}  // namespace graft::kernels::cpu
