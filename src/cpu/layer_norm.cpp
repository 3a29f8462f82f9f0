#include "kernels/layer_norm.h"

#include <cmath>

#include "cpu/rows.h"
#include "cpu/sum_into.h"
#include "cpu/vector_ops.h"

namespace graft::kernels::cpu {

using graft::cpu::for_each_row;

namespace {

// What is known of a row, and its functions as loops that become vector instructions.
template <class Sum>
struct Normal {
  Sum mean, inverse;
};

template <class T, class Sum>
GRAFT_INLINE inline Normal<Sum> normalize_of(const T* x, const Sum* gamma, const Sum* beta, Sum epsilon, T* y,
                                             Index channels) {
  const Sum count = static_cast<Sum>(channels);
  Sum mean = 0, variance = 0;
#pragma omp simd reduction(+ : mean)
  for (Index c = 0; c < channels; ++c) mean += static_cast<Sum>(x[c]);
  mean /= count;
#pragma omp simd reduction(+ : variance)
  for (Index c = 0; c < channels; ++c) {  // a second pass: E[x^2] - mean^2 would cancel
    const Sum d = static_cast<Sum>(x[c]) - mean;
    variance += d * d;
  }
  const Sum inverse = Sum(1) / std::sqrt(variance / count + epsilon);
#pragma omp simd
  for (Index c = 0; c < channels; ++c)
    y[c] = convert<T>((static_cast<Sum>(x[c]) - mean) * inverse * gamma[c] + beta[c]);
  return {mean, inverse};
}

template <class T, class Sum>
GRAFT_INLINE inline void slopes_of(const T* x, const Sum* gamma, const Normal<Sum>& normal, const T* dy, T* dx,
                                   Index channels, bool accumulate) {
  const auto g = [&](Index c) GRAFT_INLINE { return static_cast<Sum>(dy[c]) * gamma[c]; };
  const auto n = [&](Index c) GRAFT_INLINE { return (static_cast<Sum>(x[c]) - normal.mean) * normal.inverse; };
  Sum sum_g = 0, sum_gn = 0;
#pragma omp simd reduction(+ : sum_g, sum_gn)
  for (Index c = 0; c < channels; ++c) {
    sum_g += g(c);
    sum_gn += g(c) * n(c);
  }
  sum_g /= static_cast<Sum>(channels);
  sum_gn /= static_cast<Sum>(channels);
  const auto slope = [&](Index c) GRAFT_INLINE { return normal.inverse * (g(c) - sum_g - n(c) * sum_gn); };
  graft::cpu::put_each<Sum>(dx, channels, accumulate, slope);
}

template <class T, class Sum>
GRAFT_INLINE inline void add_gamma_of(const T* x, const Normal<Sum>& normal, const T* dy, Sum* sums, Index channels) {
#pragma omp simd
  for (Index c = 0; c < channels; ++c)
    sums[c] += static_cast<Sum>(dy[c]) * (static_cast<Sum>(x[c]) - normal.mean) * normal.inverse;
}

// f64 and f16 take the templates as they are; what networks run in is compiled for each instruction set.
template <class T, class Sum>
Normal<Sum> normalize(const T* x, const Sum* gamma, const Sum* beta, Sum epsilon, T* y, Index channels) {
  return normalize_of(x, gamma, beta, epsilon, y, channels);
}
GRAFT_CPU_CLONES Normal<float> normalize(const float* x, const float* gamma, const float* beta, float epsilon, float* y,
                                         Index channels) {
  return normalize_of(x, gamma, beta, epsilon, y, channels);
}
GRAFT_CPU_CLONES Normal<float> normalize(const bfloat16* x, const float* gamma, const float* beta, float epsilon,
                                         bfloat16* y, Index channels) {
  return normalize_of(x, gamma, beta, epsilon, y, channels);
}
template <class T, class Sum>
void slopes(const T* x, const Sum* gamma, const Normal<Sum>& normal, const T* dy, T* dx, Index channels,
            bool accumulate) {
  slopes_of(x, gamma, normal, dy, dx, channels, accumulate);
}
GRAFT_CPU_CLONES void slopes(const float* x, const float* gamma, const Normal<float>& normal, const float* dy,
                             float* dx, Index channels, bool accumulate) {
  slopes_of(x, gamma, normal, dy, dx, channels, accumulate);
}
GRAFT_CPU_CLONES void slopes(const bfloat16* x, const float* gamma, const Normal<float>& normal, const bfloat16* dy,
                             bfloat16* dx, Index channels, bool accumulate) {
  slopes_of(x, gamma, normal, dy, dx, channels, accumulate);
}
template <class T, class Sum>
void add_gamma(const T* x, const Normal<Sum>& normal, const T* dy, Sum* sums, Index channels) {
  add_gamma_of(x, normal, dy, sums, channels);
}
GRAFT_CPU_CLONES void add_gamma(const float* x, const Normal<float>& normal, const float* dy, float* sums,
                                Index channels) {
  add_gamma_of(x, normal, dy, sums, channels);
}
GRAFT_CPU_CLONES void add_gamma(const bfloat16* x, const Normal<float>& normal, const bfloat16* dy, float* sums,
                                Index channels) {
  add_gamma_of(x, normal, dy, sums, channels);
}

}  // namespace

void layer_norm_forward(Context&, double epsilon, const Operand& x, const Operand& gamma, const Operand& beta,
                        const Operand& y, const Operand& mean, const Operand& inverse_deviation) {
  dispatch_floating("layer_norm", x.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    for_each_row(x.shape, [&](Index row, Index channels) {
      const T* from = x.as<T>() + row * x.pitch;
      const Sum *scale = gamma.as<Sum>(), *shift = beta.as<Sum>();
      const Normal<Sum> normal =
          normalize(from, scale, shift, static_cast<Sum>(epsilon), y.as<T>() + row * y.pitch, channels);
      mean.as<Sum>()[row] = normal.mean;
      inverse_deviation.as<Sum>()[row] = normal.inverse;
    });
  });
}

void layer_norm_backward_input(Context&, const Operand& x, const Operand& gamma, const Operand& mean,
                               const Operand& inverse_deviation, const Operand& dy, Gradient dx) {
  dispatch_floating("layer_norm", dy.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    for_each_row(dy.shape, [&](Index row, Index channels) {
      const Normal<Sum> normal{mean.as<Sum>()[row], inverse_deviation.as<Sum>()[row]};
      const T *from = x.as<T>() + row * x.pitch, *slope = dy.as<T>() + row * dy.pitch;
      const Sum* scale = gamma.as<Sum>();
      slopes(from, scale, normal, slope, dx.to.as<T>() + row * dx.to.pitch, channels, dx.accumulate);
    });
  });
}

void layer_norm_backward_gamma(Context&, const Operand& x, const Operand& mean, const Operand& inverse_deviation,
                               const Operand& dy, Gradient dgamma) {
  dispatch_floating("layer_norm", dy.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    graft::cpu::sum_over_rows<T>(dy.shape, dgamma, [&](Index row, Sum* sums, Index channels) {
      const T *from = x.as<T>() + row * x.pitch, *slope = dy.as<T>() + row * dy.pitch;
      const Normal<Sum> normal{mean.as<Sum>()[row], inverse_deviation.as<Sum>()[row]};
      add_gamma(from, normal, slope, sums, channels);
    });
  });
}

}  // namespace graft::kernels::cpu
