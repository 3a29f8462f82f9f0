#pragma once

#include "core/dtype_dispatch.h"

// Compiles a function once for each of these instruction sets; the loader picks by cpuid. Sanitizers do not survive the
// resolver.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define GRAFT_CPU_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define GRAFT_CPU_CLONES
#endif
// What a clone calls must become part of it, or it would stay compiled for the oldest machine.
#define GRAFT_INLINE __attribute__((always_inline))

namespace graft::cpu {

/// sum of a[i] b[i].
float dot(const float* a, const float* b, Index count);
double dot(const double* a, const double* b, Index count);
/// y[i] += scale x[i].
void add_scaled(float* y, float scale, const float* x, Index count);
void add_scaled(double* y, double scale, const double* x, Index count);

/// x = softmax(scale x). Returns log(sum of exp(scale x)).
float softmax_row(float* x, float scale, Index count);
/// x[i] = exp(scale x[i] - log_sum): the softmax again from its scores.
void softmax_again(float* x, float scale, float log_sum, Index count);
/// dp[i] = scale p[i] (dp[i] - along): the slopes of x from those of p = softmax(scale x), `along` being the sum of dp
/// p.
void softmax_slopes(const float* p, float scale, float along, float* dp, Index count);

/// dot and add_scaled for halves (and for f32 weights beside half activations, which are rounded first): summed in f32.
template <class A, class B>
float dot(const A* a, const B* b, Index count) {
  float sum = 0;
  for (Index i = 0; i < count; ++i) sum += static_cast<float>(a[i]) * static_cast<float>(convert<A>(b[i]));
  return sum;
}
template <class X>
void add_scaled(float* y, float scale, const X* x, Index count) {
  for (Index i = 0; i < count; ++i) y[i] += scale * static_cast<float>(x[i]);
}

/// to[i] (+)= value(i), as a loop that becomes vector instructions in the function that it is part of.
template <class Sum, class T, class Value>
GRAFT_INLINE inline void put_each(T* to, Index count, bool accumulate, const Value& value) {
  if (accumulate) {  // NOLINT(bugprone-branch-clone): they differ in what is converted
#pragma omp simd
    for (Index i = 0; i < count; ++i) to[i] = convert<T>(static_cast<Sum>(to[i]) + value(i));
  } else {
#pragma omp simd
    for (Index i = 0; i < count; ++i) to[i] = convert<T>(value(i));
  }
}

/// Writes or adds sums to a gradient of any type.
template <class T, class Sum>
void put(T* to, const Sum* from, Index count, bool accumulate) {
  for (Index i = 0; i < count; ++i) to[i] = convert<T>(accumulate ? static_cast<Sum>(to[i]) + from[i] : from[i]);
}

void put(float* to, const float* from, Index count, bool accumulate);
void put(bfloat16* to, const float* from, Index count, bool accumulate);

}  // namespace graft::cpu
