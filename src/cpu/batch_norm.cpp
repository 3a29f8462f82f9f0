#include "kernels/batch_norm.h"

#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "cpu/activate_row.h"
#include "cpu/vector_ops.h"

// A tensor is a list of rows of channels. Sums over rows are made in blocks of rows, whose number depends on the shape
// alone, so that results do not depend on the number of threads.
namespace graft::kernels::cpu {
namespace {

using graft::cpu::put;

template <class T>
using Sums = std::vector<Accumulator<T>>;

// Rows whose elements stay in a core's cache while they are read twice.
Index rows_a_block(Index channels) { return std::max<Index>(1, (1 << 15) / std::max<Index>(channels, 1)); }

// mean[c] = mean over the rows, squares[c] = sum of (x - mean)^2: two passes, for the mean of squares less the square
// of the mean cancels.
template <class T, class Sum>
GRAFT_INLINE inline void moments_of(const T* x, Index pitch, Index rows, Index channels, Sum* mean, Sum* squares) {
  for (Index c = 0; c < channels; ++c) mean[c] = squares[c] = Sum(0);
  for (Index row = 0; row < rows; ++row) {
    for (Index c = 0; c < channels; ++c) mean[c] += static_cast<Sum>(x[row * pitch + c]);
  }
  for (Index c = 0; c < channels; ++c) mean[c] /= static_cast<Sum>(rows);
  for (Index row = 0; row < rows; ++row) {
    for (Index c = 0; c < channels; ++c) {
      const Sum distance = static_cast<Sum>(x[row * pitch + c]) - mean[c];
      squares[c] += distance * distance;
    }
  }
}

// y[c] = (x[c] - mean[c]) scale[c] + shift[c] + residual[c].
template <class T, class Sum>
GRAFT_INLINE inline void affine_of(const T* x, const Sum* mean, const Sum* scale, const Sum* shift, const T* residual,
                                   Sum* y, Index channels) {
  for (Index c = 0; c < channels; ++c) y[c] = (static_cast<Sum>(x[c]) - mean[c]) * scale[c] + shift[c];
  if (residual != nullptr) {
    for (Index c = 0; c < channels; ++c) y[c] += static_cast<Sum>(residual[c]);
  }
}

// slopes[c] += dz[c], products[c] += dz[c] (x[c] - mean[c]).
template <class T, class Sum>
GRAFT_INLINE inline void add_slopes_of(const T* x, const T* dz, const Sum* mean, Sum* slopes, Sum* products,
                                       Index channels) {
  for (Index c = 0; c < channels; ++c) {
    slopes[c] += static_cast<Sum>(dz[c]);
    products[c] += static_cast<Sum>(dz[c]) * (static_cast<Sum>(x[c]) - mean[c]);
  }
}

// f64 and f16 take the templates as they are; what networks run in is compiled for each instruction set.
template <class T, class Sum>
void moments(const T* x, Index pitch, Index rows, Index channels, Sum* mean, Sum* squares) {
  moments_of(x, pitch, rows, channels, mean, squares);
}
GRAFT_CPU_CLONES void moments(const float* x, Index pitch, Index rows, Index channels, float* mean, float* squares) {
  moments_of(x, pitch, rows, channels, mean, squares);
}
GRAFT_CPU_CLONES void moments(const bfloat16* x, Index pitch, Index rows, Index channels, float* mean, float* squares) {
  moments_of(x, pitch, rows, channels, mean, squares);
}
template <class T, class Sum>
void affine(const T* x, const Sum* mean, const Sum* scale, const Sum* shift, const T* residual, Sum* y,
            Index channels) {
  affine_of(x, mean, scale, shift, residual, y, channels);
}
GRAFT_CPU_CLONES void affine(const float* x, const float* mean, const float* scale, const float* shift,
                             const float* residual, float* y, Index channels) {
  affine_of(x, mean, scale, shift, residual, y, channels);
}
GRAFT_CPU_CLONES void affine(const bfloat16* x, const float* mean, const float* scale, const float* shift,
                             const bfloat16* residual, float* y, Index channels) {
  affine_of(x, mean, scale, shift, residual, y, channels);
}
template <class T, class Sum>
void add_slopes(const T* x, const T* dz, const Sum* mean, Sum* slopes, Sum* products, Index channels) {
  add_slopes_of(x, dz, mean, slopes, products, channels);
}
GRAFT_CPU_CLONES void add_slopes(const float* x, const float* dz, const float* mean, float* slopes, float* products,
                                 Index channels) {
  add_slopes_of(x, dz, mean, slopes, products, channels);
}
GRAFT_CPU_CLONES void add_slopes(const bfloat16* x, const bfloat16* dz, const float* mean, float* slopes,
                                 float* products, Index channels) {
  add_slopes_of(x, dz, mean, slopes, products, channels);
}

struct Moments {
  std::vector<double> mean, variance;
};

// Blocks are merged by Chan, Golub and LeVeque: with d the distance of two means, squares add up to a.squares +
// b.squares + d^2 n_a n_b / (n_a + n_b).
template <class T>
Moments batch_moments(const Operand& x) {
  const Index channels = x.shape.channels(), rows = x.shape.rows(), block = rows_a_block(channels);
  const Index blocks = (rows + block - 1) / block;
  Sums<T> means(static_cast<std::size_t>(blocks * channels)), squares(means.size());
  parallel_ranges(rows, block, [&](Index begin, Index end) {
    const Index at = begin / block * channels;
    moments(x.as<T>() + begin * x.pitch, x.pitch, end - begin, channels, means.data() + at, squares.data() + at);
  });
  Moments all{std::vector<double>(static_cast<std::size_t>(channels)),
              std::vector<double>(static_cast<std::size_t>(channels))};
  parallel_ranges(channels, 64, [&](Index begin, Index end) {
    for (Index b = 0; b < blocks; ++b) {
      const double before = static_cast<double>(b * block),
                   now = static_cast<double>(std::min(block, rows - b * block));
      for (Index c = begin; c < end; ++c) {
        const auto k = static_cast<std::size_t>(c), at = static_cast<std::size_t>(b * channels + c);
        const double distance = static_cast<double>(means[at]) - all.mean[k];
        all.mean[k] += distance * (now / (before + now));
        all.variance[k] += static_cast<double>(squares[at]) + distance * distance * (before * now / (before + now));
      }
    }
    for (Index c = begin; c < end; ++c) all.variance[static_cast<std::size_t>(c)] /= static_cast<double>(rows);
  });
  return all;
}

// What a row needs: y = (x - mean) gamma inverse_deviation + beta.
template <class T>
struct Affine {
  Sums<T> mean, inverse_deviation, scale, shift;

  Affine(Index channels, const Operand& gamma, const Operand& beta)
      : mean(static_cast<std::size_t>(channels)),
        inverse_deviation(mean.size()),
        scale(mean.size(), 1),
        shift(mean.size()) {
    for (std::size_t c = 0; c < mean.size() && gamma; ++c) scale[c] = gamma.as<Accumulator<T>>()[c];
    for (std::size_t c = 0; c < mean.size() && beta; ++c) shift[c] = beta.as<Accumulator<T>>()[c];
  }
  void normalise(std::size_t c, Accumulator<T> m, Accumulator<T> inverse) {
    mean[c] = m;
    inverse_deviation[c] = inverse;
    scale[c] *= inverse;
  }
};

template <class T>
Affine<T> moving_affine(const BatchNormAttributes& a, const Operand& gamma, const Operand& beta,
                        const ChannelStatistics& moving) {
  using Sum = Accumulator<T>;
  Affine<T> result(moving.mean.elements(), gamma, beta);
  for (std::size_t c = 0; c < result.mean.size(); ++c) {
    const double variance = static_cast<double>(moving.spread.as<Sum>()[c]);
    result.normalise(c, moving.mean.as<Sum>()[c], static_cast<Sum>(1 / std::sqrt(variance + a.epsilon)));
  }
  return result;
}

template <class T>
void apply(const Affine<T>& map, Activation activation, const Operand& x, const Operand& residual, const Operand& y) {
  const Index channels = x.shape.channels();
  parallel_ranges(x.shape.rows(), rows_a_block(channels), [&](Index begin, Index end) {
    Sums<T> values(static_cast<std::size_t>(channels));
    for (Index row = begin; row < end; ++row) {
      affine(x.as<T>() + row * x.pitch, map.mean.data(), map.scale.data(), map.shift.data(),
             residual ? residual.as<T>() + row * residual.pitch : nullptr, values.data(), channels);
      graft::cpu::activate_row(activation, values.data(), channels);
      put(y.as<T>() + row * y.pitch, values.data(), channels, false);
    }
  });
}

// slopes = sum of dz, products = sum of dz (x - mean), over all rows.
template <class T>
struct Slopes {
  Sums<T> slopes, products;

  Slopes(const Operand& x, const Operand& dz, const Sums<T>& mean) {
    const Index channels = dz.shape.channels(), rows = dz.shape.rows(), block = rows_a_block(channels);
    const Index blocks = std::max<Index>(1, (rows + block - 1) / block);
    slopes.resize(static_cast<std::size_t>(blocks * channels));
    products.resize(slopes.size());
    parallel_ranges(rows, block, [&](Index begin, Index end) {
      const Index at = begin / block * channels;
      for (Index row = begin; row < end; ++row) {
        const T* slope = dz.as<T>() + row * dz.pitch;
        if (x)
          add_slopes(x.as<T>() + row * x.pitch, slope, mean.data(), slopes.data() + at, products.data() + at, channels);
        else
          graft::cpu::add_scaled(slopes.data() + at, Accumulator<T>(1), slope, channels);
      }
    });
    for (Index b = 1; b < blocks; ++b) {
      graft::cpu::add_scaled(slopes.data(), Accumulator<T>(1), slopes.data() + b * channels, channels);
      graft::cpu::add_scaled(products.data(), Accumulator<T>(1), products.data() + b * channels, channels);
    }
  }
};

// dbeta = sum of dz, dgamma = sum of dz (x - mean) inverse_deviation.
template <class T>
void put_parameters(const Slopes<T>& sums, const Sums<T>& inverse_deviation, const BatchNormGradients& to) {
  using Sum = Accumulator<T>;
  const auto channels = static_cast<Index>(inverse_deviation.size());
  if (to.beta) put(to.beta.to.as<Sum>(), sums.slopes.data(), channels, to.beta.accumulate);
  if (!to.gamma) return;
  Sums<T> gamma(inverse_deviation);
  for (std::size_t c = 0; c < gamma.size(); ++c) gamma[c] *= sums.products[c];
  put(to.gamma.to.as<Sum>(), gamma.data(), channels, to.gamma.accumulate);
}

}  // namespace

void batch_norm_batch(Context&, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                      const Operand& beta, const Operand& residual, const ChannelStatistics& moving, const Operand& y,
                      const ChannelStatistics& saved) {
  dispatch_floating("batch_norm", x.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const Moments batch = batch_moments<T>(x);
    const double count = static_cast<double>(x.shape.rows());
    Affine<T> map(x.shape.channels(), gamma, beta);
    for (std::size_t c = 0; c < map.mean.size(); ++c) {
      map.normalise(c, static_cast<Sum>(batch.mean[c]), static_cast<Sum>(1 / std::sqrt(batch.variance[c] + a.epsilon)));
      saved.mean.as<Sum>()[c] = map.mean[c];
      saved.spread.as<Sum>()[c] = map.inverse_deviation[c];
      const auto blend = [&](Sum& statistic, double of_batch) {
        statistic = static_cast<Sum>(a.momentum * static_cast<double>(statistic) + (1 - a.momentum) * of_batch);
      };
      blend(moving.mean.as<Sum>()[c], batch.mean[c]);
      blend(moving.spread.as<Sum>()[c], a.unbiased ? batch.variance[c] * (count / (count - 1)) : batch.variance[c]);
    }
    apply(map, a.activation, x, residual, y);
  });
}

void batch_norm_moving(Context&, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                       const Operand& beta, const Operand& residual, const ChannelStatistics& moving,
                       const Operand& y) {
  dispatch_floating("batch_norm", x.dtype, [&]<class T>(Type<T>) {
    apply(moving_affine<T>(a, gamma, beta, moving), a.activation, x, residual, y);
  });
}

// With m rows, x^ = (x - mean) i and i = 1 / sqrt(variance + epsilon): the mean and the variance depend on every x of
// the channel, which takes from dz its mean and its part along x^: dx = gamma i (dz - mean(dz) - x^ mean(dz x^)).
void batch_norm_batch_backward(Context&, const BatchNormAttributes&, const Operand& x, const Operand& gamma,
                               const ChannelStatistics& saved, const Operand& dz, const BatchNormGradients& to) {
  dispatch_floating("batch_norm", dz.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const Index channels = dz.shape.channels(), rows = dz.shape.rows();
    Affine<T> map(channels, gamma, {});
    for (std::size_t c = 0; c < map.mean.size() && x; ++c)
      map.normalise(c, saved.mean.as<Sum>()[c], saved.spread.as<Sum>()[c]);
    const Slopes<T> sums(x, dz, map.mean);
    put_parameters(sums, map.inverse_deviation, to);
    if (!to.x) return;
    // As three channel vectors: dx = scale dz + (x - mean) along + constant.
    Sums<T> along(map.mean.size()), constant(map.mean.size());
    for (std::size_t c = 0; c < along.size(); ++c) {
      const Sum inverse = map.inverse_deviation[c];
      along[c] = -map.scale[c] * inverse * inverse * sums.products[c] / static_cast<Sum>(rows);
      constant[c] = -map.scale[c] * sums.slopes[c] / static_cast<Sum>(rows);
    }
    const Sums<T> none(map.mean.size());
    parallel_ranges(rows, rows_a_block(channels), [&](Index begin, Index end) {
      Sums<T> values(static_cast<std::size_t>(channels)), direct(values.size());
      for (Index row = begin; row < end; ++row) {
        const T* residual = nullptr;
        affine(x.as<T>() + row * x.pitch, map.mean.data(), along.data(), constant.data(), residual, values.data(),
               channels);
        affine(dz.as<T>() + row * dz.pitch, none.data(), map.scale.data(), values.data(), residual, direct.data(),
               channels);
        put(to.x.to.as<T>() + row * to.x.to.pitch, direct.data(), channels, to.x.accumulate);
      }
    });
  });
}

void batch_norm_moving_backward(Context&, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                                const ChannelStatistics& moving, const Operand& dz, const BatchNormGradients& to) {
  dispatch_floating("batch_norm", dz.dtype, [&]<class T>(Type<T>) {
    const Index channels = dz.shape.channels();
    Affine<T> map(channels, gamma, {});
    if (moving.mean) map = moving_affine<T>(a, gamma, {}, moving);
    if (to.gamma || to.beta) put_parameters(Slopes<T>(x, dz, map.mean), map.inverse_deviation, to);
    if (!to.x) return;
    const Sums<T> none(map.mean.size());
    parallel_ranges(dz.shape.rows(), rows_a_block(channels), [&](Index begin, Index end) {
      Sums<T> values(static_cast<std::size_t>(channels));
      for (Index row = begin; row < end; ++row) {
        const T* residual = nullptr;
        affine(dz.as<T>() + row * dz.pitch, none.data(), map.scale.data(), none.data(), residual, values.data(),
               channels);
        put(to.x.to.as<T>() + row * to.x.to.pitch, values.data(), channels, to.x.accumulate);
      }
    });
  });
}

}  // namespace graft::kernels::cpu
