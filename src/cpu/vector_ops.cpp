#include "cpu/vector_ops.h"

#include <cmath>
#include <limits>

#include "cpu/vector_math.h"

namespace graft::cpu {

GRAFT_CPU_CLONES float dot(const float* a, const float* b, Index count) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Index i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

GRAFT_CPU_CLONES double dot(const double* a, const double* b, Index count) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Index i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

GRAFT_CPU_CLONES void add_scaled(float* y, float scale, const float* x, Index count) {
#pragma omp simd
  for (Index i = 0; i < count; ++i) y[i] += scale * x[i];
}

GRAFT_CPU_CLONES void add_scaled(double* y, double scale, const double* x, Index count) {
#pragma omp simd
  for (Index i = 0; i < count; ++i) y[i] += scale * x[i];
}

GRAFT_CPU_CLONES float softmax_row(float* x, float scale, Index count) {
  float most = -std::numeric_limits<float>::infinity(), sum = 0;
#pragma omp simd reduction(max : most)
  for (Index i = 0; i < count; ++i) {
    x[i] *= scale;
    most = x[i] > most ? x[i] : most;
  }
#pragma omp simd reduction(+ : sum)
  for (Index i = 0; i < count; ++i) {
    x[i] = exponential(x[i] - most);
    sum += x[i];
  }
  const float share = 1 / sum;
#pragma omp simd
  for (Index i = 0; i < count; ++i) x[i] *= share;
  return most + std::log(sum);
}

GRAFT_CPU_CLONES void softmax_again(float* x, float scale, float log_sum, Index count) {
#pragma omp simd
  for (Index i = 0; i < count; ++i) x[i] = exponential(scale * x[i] - log_sum);
}

GRAFT_CPU_CLONES void softmax_slopes(const float* p, float scale, float along, float* dp, Index count) {
#pragma omp simd
  for (Index i = 0; i < count; ++i) dp[i] = scale * p[i] * (dp[i] - along);
}

GRAFT_CPU_CLONES void put(float* to, const float* from, Index count, bool accumulate) {
  if (accumulate) {
    for (Index i = 0; i < count; ++i) to[i] += from[i];
  } else {
    for (Index i = 0; i < count; ++i) to[i] = from[i];
  }
}

GRAFT_CPU_CLONES void put(bfloat16* to, const float* from, Index count, bool accumulate) {
  if (accumulate) {
    for (Index i = 0; i < count; ++i) to[i] = bfloat16(static_cast<float>(to[i]) + from[i]);
  } else {
    for (Index i = 0; i < count; ++i) to[i] = bfloat16(from[i]);
  }
}

}  // namespace graft::cpu
