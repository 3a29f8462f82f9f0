#include <cmath>

#include "device/activate.h"
#include "device/channel_sums.h"
#include "kernels/batch_norm.h"

// With batch statistics, training reads x for the moments and again to normalise it, and backward reads x and dz for
// their sums and again for dx: 2 + 3 passes over memory at least, and these kernels make no other.
namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

// Of `count` numbers of each of N channels: their mean, and the sum of their squared distances from it.
template <int N, class Sum>
struct Moments {
  Sum mean[N] = {}, squares[N] = {}, count = 0;

  // Adds Rows numbers of each, `step` elements apart. Their own moments take two passes over registers, for the mean of
  // squares less the square of the mean cancels. They are merged by Chan, Golub and LeVeque: with d the distance of two
  // means, squares add up to a.squares + b.squares + d^2 n_a n_b / (n_a + n_b).
  template <int Rows, class T>
  __device__ void add(const T* x, Index step) {
    Vector<T, N> here[Rows];
    GRAFT_UNROLL
    for (int r = 0; r < Rows; ++r) here[r] = load<N>(x + r * step);
    const Sum now = Rows, all = count + now, share = now / all, weight = count * share;
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) {
      Sum middle = 0, spread = 0;
      GRAFT_UNROLL
      for (int r = 0; r < Rows; ++r) middle += widen(here[r][k]);
      middle /= now;
      GRAFT_UNROLL
      for (int r = 0; r < Rows; ++r) {
        const Sum distance = widen(here[r][k]) - middle;
        spread += distance * distance;
      }
      const Sum distance = middle - mean[k];
      mean[k] += distance * share;
      squares[k] += spread + distance * distance * weight;
    }
    count = all;
  }
};

// partial[part, 0, c] = mean over the rows of the part, partial[part, 1, c] = sum of squared distances from it. The
// moments of the block's threads are merged without divisions: distances from one thread's mean, which all share, are
// small and add up to the mean of all; then each thread's squares move to that one.
template <int N, class T>
__global__ void __launch_bounds__(kChannelThreads)
    channel_moments_kernel(ChannelTiles tiles, const T* x, Index pitch, Accumulator<T>* partial) {
  using Sum = Accumulator<T>;
  constexpr int kRowsAtOnce = 4;  // as many loads in flight
  using Row = Sum[kLanes];
  GRAFT_SHARED(Row, shared, N);
  const ChannelPlace at(tiles, N);
  Moments<N, Sum> moments;
  if (at.channel < tiles.channels) {
    const T* from = x + at.channel;
    const Index step = at.down * pitch;
    Index row = at.first + at.row;
    for (; row + (kRowsAtOnce - 1) * at.down < at.last; row += kRowsAtOnce * at.down)
      moments.template add<kRowsAtOnce>(from + row * pitch, step);
    for (; row < at.last; row += at.down) moments.template add<1>(from + row * pitch, step);
  }
  if (at.row == 0) {
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) shared[k][at.column] = moments.mean[k];
  }
  __syncthreads();
  Sum mean[N];
  GRAFT_UNROLL
  for (int k = 0; k < N; ++k) mean[k] = moments.count * (moments.mean[k] - shared[k][at.column]);
  sum_down(tiles, mean);
  GRAFT_UNROLL
  for (int k = 0; k < N; ++k) {
    mean[k] = shared[k][at.column] + mean[k] / static_cast<Sum>(at.last - at.first);
    const Sum distance = moments.mean[k] - mean[k];
    moments.squares[k] += moments.count * distance * distance;
  }
  sum_down(tiles, moments.squares);
  if (at.row != 0 || at.channel >= tiles.channels) return;
  Sum* to = partial + static_cast<Index>(blockIdx.x) * 2 * tiles.channels + at.channel;
  put(to, mean, false);
  put(to + tiles.channels, moments.squares, false);
}

template <class Sum>
struct Statistics {
  Sum *mean, *spread;

  explicit Statistics(const ChannelStatistics& s) : mean(s.mean.as<Sum>()), spread(s.spread.as<Sum>()) {}
};

// Merges the parts of each channel in f64, 32 channels a block and 8 threads each, and keeps what comes of it.
template <class Sum>
__global__ void finish_moments_kernel(ChannelTiles tiles, const Sum* partial, BatchNormAttributes attributes,
                                      Statistics<Sum> saved, Statistics<Sum> moving) {
  constexpr int kDown = kChannelThreads / kLanes;
  GRAFT_SHARED(double, sums, kChannelThreads);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, row = thread / kLanes;
  const int channel = static_cast<int>(blockIdx.x) * kLanes + lane, last = tiles.channels - 1;
  const Sum* means = partial + (channel < last ? channel : last);  // threads past the last do as that one
  const Sum* squares = means + tiles.channels;
  const Index step = Index{2} * tiles.channels;
  const auto count = [&](int part) { return static_cast<double>(tiles.end(part) - tiles.begin(part)); };
  const auto sum_of_threads = [&](double value) {
    __syncthreads();
    sums[thread] = value;
    __syncthreads();
    value = 0;
    for (int other = 0; other < kDown; ++other) value += sums[lane + other * kLanes];
    return value;
  };
  const auto rows = static_cast<double>(tiles.rows), start = static_cast<double>(means[0]);
  double sum = 0;
  for (int part = row; part < tiles.parts; part += kDown)
    sum += count(part) * (static_cast<double>(means[part * step]) - start);
  const double mean = start + sum_of_threads(sum) / rows;
  sum = 0;
  for (int part = row; part < tiles.parts; part += kDown) {
    const double distance = static_cast<double>(means[part * step]) - mean;
    sum += static_cast<double>(squares[part * step]) + count(part) * distance * distance;
  }
  const double variance = sum_of_threads(sum) / rows;
  if (row != 0 || channel > last) return;
  saved.mean[channel] = static_cast<Sum>(mean);
  saved.spread[channel] = static_cast<Sum>(1 / std::sqrt(variance + attributes.epsilon));
  const auto blend = [&](Sum& statistic, double of_batch) {
    const double momentum = attributes.momentum;
    statistic = static_cast<Sum>(momentum * static_cast<double>(statistic) + (1 - momentum) * of_batch);
  };
  blend(moving.mean[channel], mean);
  blend(moving.spread[channel], attributes.unbiased ? variance * (rows / (rows - 1)) : variance);
}

// The inverse deviation of a channel, saved or from its moving variance; 1 where no statistics are needed.
template <class Sum>
struct InverseDeviation {
  const Sum* spread;
  bool is_variance;
  Sum epsilon;

  __device__ Sum operator()(int c) const {
    if (spread == nullptr) return Sum(1);
    return is_variance ? Sum(1) / std::sqrt(spread[c] + epsilon) : spread[c];
  }
};

// What becomes of a channel: scale u + along (x - mean) + constant.
template <class Sum>
struct Line {
  Sum scale, mean, along, constant;
};

// y = gamma (x - mean) inverse_deviation + beta + residual.
template <class Sum>
struct Normalise {
  Activation activation;
  const Sum *mean, *gamma, *beta;
  InverseDeviation<Sum> inverse_deviation;

  __device__ Line<Sum> operator()(int c) const {
    const Sum scale = (gamma != nullptr ? gamma[c] : Sum(1)) * inverse_deviation(c);
    return {Sum(1), mean[c], scale, beta != nullptr ? beta[c] : Sum(0)};
  }
};

// With m rows, x^ = (x - mean) i and i = 1 / sqrt(variance + epsilon): the mean and the variance depend on every x of
// the channel, which takes from dz its mean and its part along x^: dx = gamma i (dz - mean(dz) - x^ mean(dz x^)).
template <class Sum>
struct BatchSlope {
  static constexpr Activation activation = Activation::linear;
  const Sum *mean, *gamma;
  InverseDeviation<Sum> inverse_deviation;
  const Sum* sums;  // of dz, then of dz (x - mean)
  int channels;
  Sum rows;

  __device__ Line<Sum> operator()(int c) const {
    const Sum inverse = inverse_deviation(c), scale = (gamma != nullptr ? gamma[c] : Sum(1)) * inverse;
    return {scale, mean[c], -scale * inverse * inverse * sums[channels + c] / rows, -scale * sums[c] / rows};
  }
};

// Moving statistics are constants: dx = gamma i dz.
template <class Sum>
struct MovingSlope {
  static constexpr Activation activation = Activation::linear;
  const Sum* gamma;
  InverseDeviation<Sum> inverse_deviation;

  __device__ Line<Sum> operator()(int c) const {
    return {(gamma != nullptr ? gamma[c] : Sum(1)) * inverse_deviation(c), Sum(0), Sum(0), Sum(0)};
  }
};

// y (+)= activation(scale u + along (x - mean) + constant); x or u may be absent. A thread stays with its channels, so
// that it makes their lines once.
template <int N, class T, class Map>
__global__ void __launch_bounds__(kChannelThreads)
    map_channels_kernel(ChannelTiles tiles, Map map, const T* x, Index x_pitch, const T* u, Index u_pitch, T* y,
                        Index y_pitch, bool accumulate) {
  using Sum = Accumulator<T>;
  const ChannelPlace at(tiles, N);
  if (at.channel >= tiles.channels) return;
  Line<Sum> lines[N];
  GRAFT_UNROLL
  for (int k = 0; k < N; ++k) lines[k] = map(at.channel + k);
  for (Index row = at.first + at.row; row < at.last; row += at.down) {
    Sum values[N];
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) values[k] = lines[k].constant;
    if (x != nullptr) {
      const Vector<T, N> here = load<N>(x + row * x_pitch + at.channel);
      GRAFT_UNROLL
      for (int k = 0; k < N; ++k) values[k] += (widen(here[k]) - lines[k].mean) * lines[k].along;
    }
    if (u != nullptr) {
      const Vector<T, N> here = load<N>(u + row * u_pitch + at.channel);
      GRAFT_UNROLL
      for (int k = 0; k < N; ++k) values[k] += widen(here[k]) * lines[k].scale;
    }
    activate_values(map.activation, values);
    put(y + row * y_pitch + at.channel, values, accumulate);
  }
}

template <class T, class Map>
void map_channels(Context& context, const char* name, const Map& map, const Operand& x, const Operand& u, Gradient y) {
  if (y.to.elements() == 0) return;
  constexpr int n = kVector<T>;
  const bool fits = y.to.shape.channels() % n == 0 && aligned<T>(x.data, x.pitch, n) &&
                    aligned<T>(u.data, u.pitch, n) && aligned<T>(y.to.data, y.to.pitch, n);
  with_vectors<T>(fits, [&]<int N>(std::integral_constant<int, N>) {
    constexpr Index kRowsAThread = 8;  // each reads as much as a line of bf16 vectors takes
    const ChannelTiles tiles(y.to.shape.rows(), y.to.shape.channels(), N, kRowsAThread, Index{1} << 30);
    launch(context, name, tiles.grid(N), map_channels_kernel<N, T, Map>, tiles, map, x.as<T>(), x.pitch, u.as<T>(),
           u.pitch, y.to.as<T>(), y.to.pitch, y.accumulate);
  });
}

// What backward sums over rows: dz and, if x is there, dz (x - mean).
template <class T>
struct SlopeSums {
  const T* x;
  Index x_pitch;
  const T* dz;
  Index dz_pitch;
  const Accumulator<T>* mean;

  __host__ __device__ int slots() const { return x != nullptr ? 2 : 1; }
  __device__ int slot(int k) const { return k < slots() ? k : -1; }

  template <int N, class Sum>
  __device__ void add(Index row, int channel, Sum (&sums)[2][N]) const {
    const Vector<T, N> slope = load<N>(dz + row * dz_pitch + channel);
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) sums[0][k] += widen(slope[k]);
    if (x == nullptr) return;
    const Vector<T, N> here = load<N>(x + row * x_pitch + channel);
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) sums[1][k] += widen(slope[k]) * (widen(here[k]) - mean[channel + k]);
  }
};

// dbeta = sum of dz, dgamma = sum of dz (x - mean) inverse_deviation; the sums themselves are kept for dx.
template <class Sum>
struct PutParameters {
  Sum *sums, *gamma, *beta;
  bool add_to_gamma, add_to_beta;
  InverseDeviation<Sum> inverse_deviation;
  Index channels;

  __device__ void operator()(Index output, Sum sum) const {
    const Index c = output % channels;
    sums[output] = sum;
    if (output < channels) {
      if (beta != nullptr) beta[c] = add_to_beta ? beta[c] + sum : sum;
    } else if (gamma != nullptr) {
      const Sum gradient = sum * inverse_deviation(static_cast<int>(c));
      gamma[c] = add_to_gamma ? gamma[c] + gradient : gradient;
    }
  }
};

// Makes the gradients of gamma and beta, and returns the sums they are made of, [2, C].
template <class T>
Tensor sum_slopes(Context& context, const char* name, const Operand& x, const Accumulator<T>* mean,
                  const InverseDeviation<Accumulator<T>>& inverse_deviation, const Operand& dz,
                  const BatchNormGradients& to) {
  using Sum = Accumulator<T>;
  constexpr int n = kVector<T>;
  const Index channels = dz.shape.channels();
  const Tensor sums = Tensor::empty(Shape{2, channels}, dtype_of<Sum>, context.device);
  const SlopeSums<T> terms{x.as<T>(), x.pitch, dz.as<T>(), dz.pitch, mean};
  const PutParameters<Sum> put{static_cast<Sum*>(sums.raw()),
                               to.gamma.to.as<Sum>(),
                               to.beta.to.as<Sum>(),
                               to.gamma.accumulate,
                               to.beta.accumulate,
                               inverse_deviation,
                               channels};
  const bool fits = channels % n == 0 && aligned<T>(x.data, x.pitch, n) && aligned<T>(dz.data, dz.pitch, n);
  with_vectors<T>(fits, [&]<int N>(std::integral_constant<int, N>) {
    channel_sums<2, N, Sum>(context, name, dz.shape.rows(), channels, terms.slots(), 1, terms, put);
  });
  return sums;
}

}  // namespace

void batch_norm_batch(Context& context, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                      const Operand& beta, const Operand& residual, const ChannelStatistics& moving, const Operand& y,
                      const ChannelStatistics& saved) {
  if (x.elements() == 0) return;
  dispatch_floating("batch_norm", x.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const Index channels = x.shape.channels();
    const bool fits = channels % kVector<T> == 0 && aligned<T>(x.data, x.pitch, kVector<T>);
    with_vectors<T>(fits, [&]<int N>(std::integral_constant<int, N>) {
      const ChannelTiles tiles(x.shape.rows(), channels, N, kRowsOfASum, kMostSumParts);
      const Tensor partial = Tensor::empty(Shape{tiles.parts, 2, channels}, dtype_of<Sum>, context.device);
      auto* moments = static_cast<Sum*>(partial.raw());
      launch(context, "batch_norm_moments", tiles.grid(N), channel_moments_kernel<N, T>, tiles, x.as<T>(), x.pitch,
             moments);
      launch(context, "batch_norm_moments", grid_of_finish(channels), finish_moments_kernel<Sum>, tiles, moments, a,
             Statistics<Sum>(saved), Statistics<Sum>(moving));
    });
    const Normalise<Sum> map{
        a.activation, saved.mean.as<Sum>(), gamma.as<Sum>(), beta.as<Sum>(), {saved.spread.as<Sum>(), false, 0}};
    map_channels<T>(context, "batch_norm", map, x, residual, {y, false});
  });
}

void batch_norm_moving(Context& context, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                       const Operand& beta, const Operand& residual, const ChannelStatistics& moving,
                       const Operand& y) {
  dispatch_floating("batch_norm", x.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const Normalise<Sum> map{a.activation,
                             moving.mean.as<Sum>(),
                             gamma.as<Sum>(),
                             beta.as<Sum>(),
                             {moving.spread.as<Sum>(), true, static_cast<Sum>(a.epsilon)}};
    map_channels<T>(context, "batch_norm_moving", map, x, residual, {y, false});
  });
}

void batch_norm_batch_backward(Context& context, const BatchNormAttributes&, const Operand& x, const Operand& gamma,
                               const ChannelStatistics& saved, const Operand& dz, const BatchNormGradients& to) {
  const char* name = "batch_norm_backward";
  dispatch_floating("batch_norm", dz.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const InverseDeviation<Sum> inverse{saved.spread.as<Sum>(), false, 0};
    const Tensor sums = sum_slopes<T>(context, name, x, saved.mean.as<Sum>(), inverse, dz, to);
    if (!to.x) return;
    const BatchSlope<Sum> map{saved.mean.as<Sum>(),
                              gamma.as<Sum>(),
                              inverse,
                              static_cast<const Sum*>(sums.raw()),
                              static_cast<int>(dz.shape.channels()),
                              static_cast<Sum>(dz.shape.rows())};
    map_channels<T>(context, name, map, x, dz, to.x);
  });
}

void batch_norm_moving_backward(Context& context, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                                const ChannelStatistics& moving, const Operand& dz, const BatchNormGradients& to) {
  const char* name = "batch_norm_moving_backward";
  dispatch_floating("batch_norm", dz.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const InverseDeviation<Sum> inverse{moving.spread.as<Sum>(), true, static_cast<Sum>(a.epsilon)};
    const Operand with = to.gamma ? x : Operand{};  // beta's gradient needs no x
    if (to.gamma || to.beta) sum_slopes<T>(context, name, with, moving.mean.as<Sum>(), inverse, dz, to);
    if (to.x) map_channels<T>(context, name, MovingSlope<Sum>{gamma.as<Sum>(), inverse}, {}, dz, to.x);
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
