#include <cmath>

#include "device/channel_sums.h"
#include "device/warp_rows.h"
#include "kernels/layer_norm.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

// A warp takes a row, of 192 to 1024 channels in a transformer: two to four vectors of bf16 a lane. It reads the row
// two or three times, from memory the first time and from the cache then.
template <int N, class T>
__global__ void layer_norm_kernel(Index rows, int channels, Accumulator<T> epsilon, const T* x, Index x_pitch,
                                  const Accumulator<T>* gamma, const Accumulator<T>* beta, T* y, Index y_pitch,
                                  Accumulator<T>* means, Accumulator<T>* inverse_deviations) {
  using Sum = Accumulator<T>;
  const int lane = lane_of_thread();
  const Index row = row_of_warp();
  if (row >= rows) return;  // a whole warp
  const T* from = x + row * x_pitch;
  T* to = y + row * y_pitch;
  Sum mean = 0, variance = 0;
  for (int c = lane * N; c < channels; c += kLanes * N) {
    const Vector<T, N> here = load<N>(from + c);
    for (int k = 0; k < N; ++k) mean += widen(here[k]);
  }
  mean = warp_reduce(mean, Plus{}) / static_cast<Sum>(channels);
  for (int c = lane * N; c < channels; c += kLanes * N) {  // a second pass: E[x^2] - mean^2 would cancel
    const Vector<T, N> here = load<N>(from + c);
    for (int k = 0; k < N; ++k) {
      const Sum distance = widen(here[k]) - mean;
      variance += distance * distance;
    }
  }
  variance = warp_reduce(variance, Plus{}) / static_cast<Sum>(channels);
  const Sum inverse = Sum(1) / std::sqrt(variance + epsilon);
  for (int c = lane * N; c < channels; c += kLanes * N) {
    const Vector<T, N> here = load<N>(from + c);
    Sum values[N];
    for (int k = 0; k < N; ++k) values[k] = (widen(here[k]) - mean) * inverse * gamma[c + k] + beta[c + k];
    put(to + c, values, false);
  }
  if (lane == 0) {
    means[row] = mean;
    inverse_deviations[row] = inverse;
  }
}

// What backward reads of the forward: a row's x and its statistics.
template <class T>
struct Normalised {
  const T* x;
  Index pitch;
  const Accumulator<T>*mean, *inverse_deviation;
};

// dx (+)= inverse_deviation (g - mean(g) - n mean(g n)), g = dy gamma, n = (x - mean) inverse_deviation.
template <int N, class T>
__global__ void layer_norm_backward_kernel(Index rows, int channels, Normalised<T> normalised,
                                           const Accumulator<T>* gamma, const T* dy, Index dy_pitch, T* dx,
                                           Index dx_pitch, bool accumulate) {
  using Sum = Accumulator<T>;
  const int lane = lane_of_thread();
  const Index row = row_of_warp();
  if (row >= rows) return;
  const T *from = normalised.x + row * normalised.pitch, *slope = dy + row * dy_pitch;
  const Sum mean = normalised.mean[row], inverse = normalised.inverse_deviation[row];
  Sum sum_g = 0, sum_gn = 0;
  for (int c = lane * N; c < channels; c += kLanes * N) {
    const Vector<T, N> here = load<N>(from + c), slopes = load<N>(slope + c);
    for (int k = 0; k < N; ++k) {
      const Sum g = widen(slopes[k]) * gamma[c + k];
      sum_g += g;
      sum_gn += g * ((widen(here[k]) - mean) * inverse);
    }
  }
  sum_g = warp_reduce(sum_g, Plus{}) / static_cast<Sum>(channels);
  sum_gn = warp_reduce(sum_gn, Plus{}) / static_cast<Sum>(channels);
  for (int c = lane * N; c < channels; c += kLanes * N) {
    const Vector<T, N> here = load<N>(from + c), slopes = load<N>(slope + c);
    Sum values[N];
    for (int k = 0; k < N; ++k) {
      const Sum n = (widen(here[k]) - mean) * inverse;
      values[k] = inverse * (widen(slopes[k]) * gamma[c + k] - sum_g - n * sum_gn);
    }
    put(dx + row * dx_pitch + c, values, accumulate);
  }
}

// What dgamma sums over rows: dy n.
template <class T>
struct GammaTerms {
  static constexpr int kRowsAtOnce = 4;

  Normalised<T> normalised;
  const T* dy;
  Index dy_pitch;

  __device__ int slots() const { return 1; }
  __device__ int slot(int k) const { return k; }

  template <int N, class Sum>
  __device__ void add(Index row, int channel, Sum (&sums)[1][N]) const {
    const auto here = load<N>(normalised.x + row * normalised.pitch + channel),
               slope = load<N>(dy + row * dy_pitch + channel);
    const Sum mean = normalised.mean[row], inverse = normalised.inverse_deviation[row];
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) sums[0][k] += widen(slope[k]) * (widen(here[k]) - mean) * inverse;
  }
};

template <class T>
bool fits(std::initializer_list<const Operand*> operands) {
  bool all = true;
  for (const Operand* operand : operands)
    all = all && operand->shape.channels() % kVector<T> == 0 && aligned<T>(operand->data, operand->pitch, kVector<T>);
  return all;
}

template <class T>
Normalised<T> normalised(const Operand& x, const Operand& mean, const Operand& inverse_deviation) {
  using Sum = Accumulator<T>;
  return {x.as<T>(), x.pitch, mean.as<Sum>(), inverse_deviation.as<Sum>()};
}

}  // namespace

void layer_norm_forward(Context& context, double epsilon, const Operand& x, const Operand& gamma, const Operand& beta,
                        const Operand& y, const Operand& mean, const Operand& inverse_deviation) {
  dispatch_floating("layer_norm", x.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    with_vectors<T>(fits<T>({&x, &y}), [&]<int N>(std::integral_constant<int, N>) {
      launch(context, "layer_norm", a_warp_each(x.shape.rows()), layer_norm_kernel<N, T>, x.shape.rows(),
             static_cast<int>(x.shape.channels()), static_cast<Sum>(epsilon), x.as<T>(), x.pitch, gamma.as<Sum>(),
             beta.as<Sum>(), y.as<T>(), y.pitch, mean.as<Sum>(), inverse_deviation.as<Sum>());
    });
  });
}

void layer_norm_backward_input(Context& context, const Operand& x, const Operand& gamma, const Operand& mean,
                               const Operand& inverse_deviation, const Operand& dy, Gradient dx) {
  dispatch_floating("layer_norm", dy.dtype, [&]<class T>(Type<T>) {
    with_vectors<T>(fits<T>({&x, &dy, &dx.to}), [&]<int N>(std::integral_constant<int, N>) {
      launch(context, "layer_norm_backward_input", a_warp_each(dy.shape.rows()), layer_norm_backward_kernel<N, T>,
             dy.shape.rows(), static_cast<int>(dy.shape.channels()), normalised<T>(x, mean, inverse_deviation),
             gamma.as<Accumulator<T>>(), dy.as<T>(), dy.pitch, dx.to.as<T>(), dx.to.pitch, dx.accumulate);
    });
  });
}

void layer_norm_backward_gamma(Context& context, const Operand& x, const Operand& mean,
                               const Operand& inverse_deviation, const Operand& dy, Gradient dgamma) {
  dispatch_floating("layer_norm", dy.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const GammaTerms<T> terms{normalised<T>(x, mean, inverse_deviation), dy.as<T>(), dy.pitch};
    with_vectors<T>(fits<T>({&x, &dy}), [&]<int N>(std::integral_constant<int, N>) {
      channel_sums<1, N, Sum>(context, "layer_norm_backward_gamma", dy.shape.rows(), dy.shape.channels(), 1, 1, terms,
                              PutRows<Sum>(dgamma));
    });
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
