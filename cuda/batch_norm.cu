#include <cmath>
#include <limits>

#include "batch_norm.h"
#include "device/activate.h"
#include "device/moments.h"

// With batch statistics, training reads x for the moments and again to normalise it, and backward reads x and dz for
// their sums and again for dx: 2 + 3 passes over memory at least, and these kernels make no other.
namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

// Where the moments of parts of the rows are, [parts, 2, C]: the means of part p, which are rows p * rows_a_part and
// the rows_a_part - 1 after it, and the sums of squared distances from them.
template <class Sum>
struct MomentParts {
  Sum* moments;
  Index rows, rows_a_part;
  int channels, parts;

  __device__ double count(int part) const {
    const Index begin = part * rows_a_part;
    return static_cast<double>(rows - begin < rows_a_part ? rows - begin : rows_a_part);
  }
  __device__ Sum* means(int part) const { return moments + part * (Index{2} * channels); }
  __device__ Sum* squares(int part) const { return means(part) + channels; }
};

template <int N, class T>
__global__ void __launch_bounds__(kChannelThreads)
    channel_moments_kernel(ChannelTiles tiles, const T* x, Index pitch, Accumulator<T>* partial) {
  using Sum = Accumulator<T>;
  const ChannelPlace at(tiles, N);
  Moments<N, Sum> moments;
  if (at.channel < tiles.channels) {
    const T* from = x + at.channel;
    const auto add = [&]<int Rows>(std::integral_constant<int, Rows>, Index row) {
      Vector<T, N> here[Rows];
      GRAFT_UNROLL
      for (int r = 0; r < Rows; ++r) here[r] = load<N>(from + (row + r * at.down) * pitch);
      moments.add(here);
    };
    constexpr std::integral_constant<int, 4> kAtOnce;  // as many loads in flight
    constexpr std::integral_constant<int, 1> kOne;
    Index row = at.first + at.row;
    for (; row + (kAtOnce - 1) * at.down < at.last; row += kAtOnce * at.down) add(kAtOnce, row);
    for (; row < at.last; row += at.down) add(kOne, row);
  }
  merge_down<kChannelThreads>(tiles.across, static_cast<Sum>(at.last - at.first), moments);
  if (at.row != 0 || at.channel >= tiles.channels) return;
  Sum* to = partial + static_cast<Index>(blockIdx.x) * 2 * tiles.channels + at.channel;
  put(to, moments.mean, false);
  put(to + tiles.channels, moments.squares, false);
}

// Makes of some neighbouring parts one, in f64: a thread does so for a channel.
template <class Sum>
__global__ void merge_moments_kernel(MomentParts<Sum> from, MomentParts<Sum> to) {
  const auto each = static_cast<int>(to.rows_a_part / from.rows_a_part);
  for (Index i = first_index(); i < Index{to.parts} * to.channels; i += index_stride()) {
    const auto part = static_cast<int>(i / to.channels), c = static_cast<int>(i % to.channels);
    const int first = part * each, last = first + each < from.parts ? first + each : from.parts;
    const auto start = static_cast<double>(from.means(first)[c]);
    double sum = 0, squares = 0;
    for (int p = first; p < last; ++p) sum += from.count(p) * (static_cast<double>(from.means(p)[c]) - start);
    const double mean = start + sum / to.count(part);
    for (int p = first; p < last; ++p) {
      const double distance = static_cast<double>(from.means(p)[c]) - mean;
      squares += static_cast<double>(from.squares(p)[c]) + from.count(p) * distance * distance;
    }
    to.means(part)[c] = static_cast<Sum>(mean);
    to.squares(part)[c] = static_cast<Sum>(squares);
  }
}

template <class Sum>
struct Statistics {
  Sum *mean, *spread;

  explicit Statistics(const ChannelStatistics& s) : mean(s.mean.as<Sum>()), spread(s.spread.as<Sum>()) {}
};

// Merges the parts of each channel in f64, and keeps what comes of it.
template <class Sum>
__global__ void finish_moments_kernel(MomentParts<Sum> parts, BatchNormAttributes attributes, Statistics<Sum> saved,
                                      Statistics<Sum> moving) {
  constexpr int kDown = kFinishDown;
  GRAFT_SHARED(double, sums, kChannelThreads);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kFinishAcross, row = thread / kFinishAcross;
  const int channel = static_cast<int>(blockIdx.x) * kFinishAcross + lane, last = parts.channels - 1;
  const int c = channel < last ? channel : last;  // threads past the last do as that one
  const auto sum_of_threads = [&](double value) {
    __syncthreads();
    sums[thread] = value;
    __syncthreads();
    value = 0;
    for (int other = 0; other < kDown; ++other) value += sums[lane + other * kFinishAcross];
    return value;
  };
  const auto rows = static_cast<double>(parts.rows), start = static_cast<double>(parts.means(0)[c]);
  double sum = 0;
  for (int part = row; part < parts.parts; part += kDown)
    sum += parts.count(part) * (static_cast<double>(parts.means(part)[c]) - start);
  const double mean = start + sum_of_threads(sum) / rows;
  sum = 0;
  for (int part = row; part < parts.parts; part += kDown) {
    const double distance = static_cast<double>(parts.means(part)[c]) - mean;
    sum += static_cast<double>(parts.squares(part)[c]) + parts.count(part) * distance * distance;
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

// What becomes of a channel: scale u + along (x - mean) + constant. Where a Map masks, scale (x - mean) + shift is what
// went into the activation.
template <class Sum>
struct Line {
  Sum scale, mean, along, constant, shift = 0;
};

// Where relu or relu6 clamps, from 0 to a limit.
template <class Sum>
Sum limit_of(Activation activation) {
  return activation == Activation::relu6 ? Sum(6) : std::numeric_limits<Sum>::infinity();
}

// The slope before such an activation, whose argument is made again as `Normalise` made it.
template <class T, class Sum>
__device__ Sum masked(Sum limit, Sum slope, Sum distance, Sum scale, Sum shift) {
  const Sum z = widen(narrow<T>(shift + distance * scale));
  return z > 0 && z < limit ? slope : Sum(0);
}

// y = gamma (x - mean) inverse_deviation + beta + residual.
template <class Sum>
struct Normalise {
  static constexpr bool kMasks = false;
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
template <class Sum, bool Masks>
struct BatchSlope {
  static constexpr bool kMasks = Masks;
  static constexpr Activation activation = Activation::linear;
  Sum limit;
  const Sum *mean, *gamma, *beta;
  InverseDeviation<Sum> inverse_deviation;
  const Sum* sums;  // of dz, then of dz (x - mean)
  int channels;
  Sum rows;

  __device__ Line<Sum> operator()(int c) const {
    const Sum inverse = inverse_deviation(c), scale = (gamma != nullptr ? gamma[c] : Sum(1)) * inverse;
    return {scale, mean[c], -scale * inverse * inverse * sums[channels + c] / rows, -scale * sums[c] / rows,
            beta != nullptr ? beta[c] : Sum(0)};
  }
};

// Moving statistics are constants: dx = gamma i dz.
template <class Sum>
struct MovingSlope {
  static constexpr bool kMasks = false;
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
  const auto map_rows = [&]<int Rows>(std::integral_constant<int, Rows>, Index row) {
    Vector<T, N> of_x[Rows] = {}, of_u[Rows] = {};
    GRAFT_UNROLL
    for (int r = 0; r < Rows; ++r) {
      if (x != nullptr) of_x[r] = load<N>(x + (row + r * at.down) * x_pitch + at.channel);
      if (u != nullptr) of_u[r] = load<N>(u + (row + r * at.down) * u_pitch + at.channel);
    }
    GRAFT_UNROLL
    for (int r = 0; r < Rows; ++r) {
      Sum values[N];
      GRAFT_UNROLL
      for (int k = 0; k < N; ++k) {
        values[k] = lines[k].constant;
        if (x != nullptr) values[k] += (widen(of_x[r][k]) - lines[k].mean) * lines[k].along;
        if (u == nullptr) continue;
        Sum slope = widen(of_u[r][k]);
        if constexpr (Map::kMasks)
          slope = masked<T>(map.limit, slope, widen(of_x[r][k]) - lines[k].mean, lines[k].scale, lines[k].shift);
        values[k] += slope * lines[k].scale;
      }
      activate_values(map.activation, values);
      put(y + (row + r * at.down) * y_pitch + at.channel, values, accumulate);
    }
  };
  constexpr std::integral_constant<int, 2> kAtOnce;  // as many rows whose loads are in flight
  constexpr std::integral_constant<int, 1> kOne;
  Index row = at.first + at.row;
  for (; row + (kAtOnce - 1) * at.down < at.last; row += kAtOnce * at.down) map_rows(kAtOnce, row);
  for (; row < at.last; row += at.down) map_rows(kOne, row);
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
template <class T, bool Masks>
struct SlopeSums {
  using Sum = Accumulator<T>;
  static constexpr int kRowsAtOnce = 4;

  const T* x;
  Index x_pitch;
  const T* dy;
  Index dy_pitch;
  Sum limit;
  const Sum *mean, *gamma, *beta;
  InverseDeviation<Sum> inverse_deviation;

  bool fits(int n) const { return aligned<T>(x, x_pitch, n) && aligned<T>(dy, dy_pitch, n); }
  __host__ __device__ int slots() const { return x != nullptr ? 2 : 1; }
  __device__ int slot(int k) const { return k < slots() ? k : -1; }

  template <int N>
  struct OfChannels {
    SlopeSums of;
    Sum mean[N], scale[Masks ? N : 1], shift[Masks ? N : 1];

    template <int>
    __device__ void add(Index row, int channel, Sum (&sums)[2][N]) const {
      const Vector<T, N> slopes = load<N>(of.dy + row * of.dy_pitch + channel);
      const Vector<T, N> here = of.x != nullptr ? load<N>(of.x + row * of.x_pitch + channel) : Vector<T, N>{};
      GRAFT_UNROLL
      for (int k = 0; k < N; ++k) {
        const Sum distance = widen(here[k]) - mean[k];
        Sum slope = widen(slopes[k]);
        if constexpr (Masks) slope = masked<T>(of.limit, slope, distance, scale[k], shift[k]);
        sums[0][k] += slope;
        sums[1][k] += slope * distance;
      }
    }
  };
  template <int N>
  __device__ OfChannels<N> of_channels(int channel) const {
    OfChannels<N> result{*this, {}, {}, {}};
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) {
      const int c = channel + k;
      result.mean[k] = x != nullptr ? mean[c] : Sum(0);
      if constexpr (Masks) {
        result.scale[k] = (gamma != nullptr ? gamma[c] : Sum(1)) * inverse_deviation(c);
        result.shift[k] = beta != nullptr ? beta[c] : Sum(0);
      }
    }
    return result;
  }
};

// The same where something was added before the activation: dz, which is the gradient of that, is found by the result y
// and written on the way. It may lie where dy does.
template <class T>
struct ResidualSlopeSums {
  using Sum = Accumulator<T>;
  static constexpr int kRowsAtOnce = sizeof(T) == 8 ? 1 : 2;

  const T* x;
  Index x_pitch;
  const T* dy;
  Index dy_pitch;
  const T* y;
  Index y_pitch;
  T* dz;
  Index dz_pitch;
  Activation activation;
  const Sum* mean;
  InverseDeviation<Sum> inverse_deviation;

  bool fits(int n) const {
    return aligned<T>(x, x_pitch, n) && aligned<T>(dy, dy_pitch, n) && aligned<T>(y, y_pitch, n) &&
           aligned<T>(dz, dz_pitch, n);
  }
  __host__ __device__ int slots() const { return 2; }
  __device__ int slot(int k) const { return k; }

  template <int N>
  __device__ void add(Index row, int channel, Sum (&sums)[2][N]) const {
    Vector<T, N> slopes = load<N>(dy + row * dy_pitch + channel);
    const Vector<T, N> result = load<N>(y + row * y_pitch + channel), here = load<N>(x + row * x_pitch + channel);
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) {
      slopes[k] = narrow<T>(widen(slopes[k]) * graft::GRAFT_TARGET::derivative(activation, widen(result[k])));
      const Sum slope = widen(slopes[k]);
      sums[0][k] += slope;
      sums[1][k] += slope * (widen(here[k]) - mean[channel + k]);
    }
    store(dz + row * dz_pitch + channel, slopes);
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
template <class T, class Terms>
Tensor sum_slopes(Context& context, const char* name, const Terms& terms, const Shape& shape,
                  const BatchNormGradients& to) {
  using Sum = Accumulator<T>;
  constexpr int n = kVector<T>;
  const Index channels = shape.channels();
  const Tensor sums = Tensor::empty(Shape{2, channels}, dtype_of<Sum>, context.device);
  const PutParameters<Sum> put{static_cast<Sum*>(sums.raw()),
                               to.gamma.to.as<Sum>(),
                               to.beta.to.as<Sum>(),
                               to.gamma.accumulate,
                               to.beta.accumulate,
                               terms.inverse_deviation,
                               channels};
  with_vectors<T>(channels % n == 0 && terms.fits(n), [&]<int N>(std::integral_constant<int, N>) {
    channel_sums<2, N, Sum>(context, name, shape.rows(), channels, terms.slots(), 1, terms, put);
  });
  return sums;
}

// Makes the statistics of the parts' moments, and y of x by them.
template <class T>
void normalise_by(Context& context, const BatchNormAttributes& a, const MomentParts<Accumulator<T>>& parts,
                  const Operand& x, const Operand& gamma, const Operand& beta, const Operand& residual,
                  const ChannelStatistics& moving, const Operand& y, const ChannelStatistics& saved) {
  using Sum = Accumulator<T>;
  launch(context, "batch_norm_moments", grid_of_finish(parts.channels), finish_moments_kernel<Sum>, parts, a,
         Statistics<Sum>(saved), Statistics<Sum>(moving));
  const Normalise<Sum> map{
      a.activation, saved.mean.as<Sum>(), gamma.as<Sum>(), beta.as<Sum>(), {saved.spread.as<Sum>(), false, 0}};
  map_channels<T>(context, "batch_norm", map, x, residual, {y, false});
}

// The gradients of gamma, beta and x, by what `terms` sum of dz, which BatchSlope finds too where it masks.
template <class T, bool Masks, class Terms>
void put_slopes(Context& context, Accumulator<T> limit, const Terms& terms, const Operand& x, const Operand& gamma,
                const Operand& beta, const Operand& dz, const BatchNormGradients& to) {
  using Sum = Accumulator<T>;
  const char* name = "batch_norm_backward";
  const Tensor sums = sum_slopes<T>(context, name, terms, dz.shape, to);
  if (!to.x) return;
  const BatchSlope<Sum, Masks> map{limit,
                                   terms.mean,
                                   gamma.as<Sum>(),
                                   beta.as<Sum>(),
                                   terms.inverse_deviation,
                                   static_cast<const Sum*>(sums.raw()),
                                   static_cast<int>(dz.shape.channels()),
                                   static_cast<Sum>(dz.shape.rows())};
  map_channels<T>(context, name, map, x, dz, to.x);
}

// A thread that masks holds two numbers more of each of its channels.
template <class T, bool Masks>
void batch_backward(Context& context, Accumulator<T> limit, const Operand& x, const Operand& gamma, const Operand& beta,
                    const ChannelStatistics& saved, const Operand& dy, const BatchNormGradients& to) {
  using Sum = Accumulator<T>;
  const SlopeSums<T, Masks> terms{x.as<T>(),       x.pitch,        dy.as<T>(),
                                  dy.pitch,        limit,          saved.mean.as<Sum>(),
                                  gamma.as<Sum>(), beta.as<Sum>(), {saved.spread.as<Sum>(), false, 0}};
  put_slopes<T, Masks>(context, limit, terms, x, gamma, beta, dy, to);
}

template <class T>
void residual_backward(Context& context, Activation activation, const Operand& x, const Operand& gamma,
                       const ChannelStatistics& saved, const Operand& dy, const BatchNormGradients& to) {
  using Sum = Accumulator<T>;
  const ResidualSlopeSums<T> terms{x.as<T>(),
                                   x.pitch,
                                   dy.as<T>(),
                                   dy.pitch,
                                   to.y.as<T>(),
                                   to.y.pitch,
                                   to.residual.as<T>(),
                                   to.residual.pitch,
                                   activation,
                                   saved.mean.as<Sum>(),
                                   {saved.spread.as<Sum>(), false, 0}};
  put_slopes<T, false>(context, {}, terms, x, gamma, {}, to.residual, to);
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
      normalise_by<T>(context, a, {moments, tiles.rows, tiles.rows_a_block, tiles.channels, tiles.parts}, x, gamma,
                      beta, residual, moving, y, saved);
    });
  });
}

void batch_norm_of_moments(Context& context, const BatchNormAttributes& a, const Tensor& moments, Index rows_a_part,
                           const Operand& x, const Operand& gamma, const Operand& beta, const Operand& residual,
                           const ChannelStatistics& moving, const Operand& y, const ChannelStatistics& saved) {
  dispatch_floating("batch_norm", x.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const Index rows = x.shape.rows(), channels = x.shape.channels();
    const auto cut = [&](const Tensor& to, Index each) {
      return MomentParts<Sum>{static_cast<Sum*>(to.raw()), rows, each, static_cast<int>(channels),
                              static_cast<int>((rows + each - 1) / each)};
    };
    MomentParts<Sum> parts = cut(moments, rows_a_part);
    Tensor merged;
    if (parts.parts > kMostSumParts) {
      const Index each = (parts.parts + kMostSumParts - 1) / kMostSumParts;
      merged = Tensor::empty(Shape{kMostSumParts, 2, channels}, dtype_of<Sum>, context.device);
      const MomentParts<Sum> fewer = cut(merged, rows_a_part * each);
      launch(context, "batch_norm_moments", grid_for(fewer.parts * channels), merge_moments_kernel<Sum>, parts, fewer);
      parts = fewer;
    }
    normalise_by<T>(context, a, parts, x, gamma, beta, residual, moving, y, saved);
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

void batch_norm_batch_backward(Context& context, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                               const Operand& beta, const ChannelStatistics& saved, const Operand& dy,
                               const BatchNormGradients& to) {
  dispatch_floating("batch_norm", dy.dtype, [&]<class T>(Type<T>) {
    if (to.residual)
      residual_backward<T>(context, a.activation, x, gamma, saved, dy, to);
    else if (a.activation == Activation::linear)
      batch_backward<T, false>(context, {}, x, gamma, beta, saved, dy, to);
    else
      batch_backward<T, true>(context, limit_of<Accumulator<T>>(a.activation), x, gamma, beta, saved, dy, to);
  });
}

void batch_norm_moving_backward(Context& context, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                                const ChannelStatistics& moving, const Operand& dz, const BatchNormGradients& to) {
  const char* name = "batch_norm_moving_backward";
  dispatch_floating("batch_norm", dz.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const InverseDeviation<Sum> inverse{moving.spread.as<Sum>(), true, static_cast<Sum>(a.epsilon)};
    const Operand with = to.gamma ? x : Operand{};  // beta's gradient needs no x
    if (to.gamma || to.beta) {
      const SlopeSums<T, false> terms{with.as<T>(),          with.pitch, dz.as<T>(), dz.pitch, {},
                                      moving.mean.as<Sum>(), nullptr,    nullptr,    inverse};
      sum_slopes<T>(context, name, terms, dz.shape, to);
    }
    if (to.x) map_channels<T>(context, name, MovingSlope<Sum>{gamma.as<Sum>(), inverse}, {}, dz, to.x);
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
