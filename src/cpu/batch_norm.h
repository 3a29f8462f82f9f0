#pragma once

#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "cpu/vector_ops.h"
#include "kernels/batch_norm.h"

// What the CPU's batch norms do once for each channel, whoever walks the rows.
namespace graft::cpu {

template <class Sum>
using Channels = std::vector<Sum>;

/// Of a batch, in f64: a difference of two large means would cancel.
struct Moments {
  Channels<double> mean, variance;
};

/// Adds a block to the moments of `before` rows, of which those of the block are so large a `share` of both.
template <class Sum>
void merge_block(const Sum* means, const Sum* squares, double share, double before, double* __restrict mean,
                 double* __restrict variance, Index begin, Index end) {
  for (Index c = begin; c < end; ++c) {
    const double distance = static_cast<double>(means[c]) - mean[c];
    mean[c] += distance * share;
    variance[c] += static_cast<double>(squares[c]) + distance * distance * before * share;
  }
}

/// The moments of all rows from those of blocks of `block` rows, the last one maybe shorter: the means and the sums of
/// (x - mean)^2, each [blocks, channels]. Blocks are merged by Chan, Golub and LeVeque: with d the distance of two
/// means, squares add up to a.squares + b.squares + d^2 n_a n_b / (n_a + n_b).
template <class Sum>
Moments merge_moments(const Channels<Sum>& means, const Channels<Sum>& squares, Index channels, Index rows,
                      Index block) {
  Moments all{Channels<double>(static_cast<std::size_t>(channels)),
              Channels<double>(static_cast<std::size_t>(channels))};
  parallel_ranges(channels, 64, [&](Index begin, Index end) {
    for (Index first = 0, at = 0; first < rows; first += block, at += channels) {
      const double before = static_cast<double>(first), now = static_cast<double>(std::min(block, rows - first));
      merge_block(means.data() + at, squares.data() + at, now / (before + now), before, all.mean.data(),
                  all.variance.data(), begin, end);
    }
    for (Index c = begin; c < end; ++c) all.variance[static_cast<std::size_t>(c)] /= static_cast<double>(rows);
  });
  return all;
}

/// What a row needs: y = (x - mean) scale + shift, with scale = gamma inverse_deviation and shift = beta.
template <class Sum>
struct ChannelAffine {
  Channels<Sum> mean, inverse_deviation, scale, shift;

  ChannelAffine(Index channels, const Operand& gamma, const Operand& beta)
      : mean(static_cast<std::size_t>(channels)),
        inverse_deviation(mean.size()),
        scale(mean.size(), 1),
        shift(mean.size()) {
    for (std::size_t c = 0; c < mean.size() && gamma; ++c) scale[c] = gamma.as<Sum>()[c];
    for (std::size_t c = 0; c < mean.size() && beta; ++c) shift[c] = beta.as<Sum>()[c];
  }
  void normalise(std::size_t c, Sum m, Sum inverse) {
    mean[c] = m;
    inverse_deviation[c] = inverse;
    scale[c] *= inverse;
  }
};

template <class Sum>
ChannelAffine<Sum> moving_affine(const BatchNormAttributes& a, const Operand& gamma, const Operand& beta,
                                 const ChannelStatistics& moving) {
  ChannelAffine<Sum> result(moving.mean.elements(), gamma, beta);
  for (std::size_t c = 0; c < result.mean.size(); ++c) {
    const double variance = static_cast<double>(moving.spread.as<Sum>()[c]);
    result.normalise(c, moving.mean.as<Sum>()[c], static_cast<Sum>(1 / std::sqrt(variance + a.epsilon)));
  }
  return result;
}

/// The map with the moments of a batch of `rows`, which are saved and blended into the moving ones.
template <class Sum>
ChannelAffine<Sum> batch_affine(const BatchNormAttributes& a, const Moments& batch, Index rows, const Operand& gamma,
                                const Operand& beta, const ChannelStatistics& moving, const ChannelStatistics& saved) {
  const double count = static_cast<double>(rows);
  ChannelAffine<Sum> map(static_cast<Index>(batch.mean.size()), gamma, beta);
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
  return map;
}

/// The map that backward knows from the saved statistics; x is absent where they are.
template <class Sum>
ChannelAffine<Sum> saved_affine(Index channels, const Operand& x, const Operand& gamma, const Operand& beta,
                                const ChannelStatistics& saved) {
  ChannelAffine<Sum> map(channels, gamma, beta);
  for (std::size_t c = 0; c < map.mean.size() && x; ++c)
    map.normalise(c, saved.mean.as<Sum>()[c], saved.spread.as<Sum>()[c]);
  return map;
}

/// Sums over all rows: of dz, and of dz (x - mean).
template <class Sum>
struct Slopes {
  Channels<Sum> slopes, products;

  /// From those of each block, [blocks, channels].
  Slopes(const Channels<Sum>& of_slopes, const Channels<Sum>& of_products, Index channels)
      : slopes(static_cast<std::size_t>(channels)), products(slopes.size()) {
    for (std::size_t at = 0; at < of_slopes.size(); at += slopes.size()) {
      add_scaled(slopes.data(), Sum(1), of_slopes.data() + at, channels);
      add_scaled(products.data(), Sum(1), of_products.data() + at, channels);
    }
  }
};

/// dbeta = sum of dz, dgamma = sum of dz (x - mean) inverse_deviation.
template <class Sum>
void put_parameters(const Slopes<Sum>& sums, const Channels<Sum>& inverse_deviation, const BatchNormGradients& to) {
  const auto channels = static_cast<Index>(inverse_deviation.size());
  if (to.beta) put(to.beta.to.as<Sum>(), sums.slopes.data(), channels, to.beta.accumulate);
  if (!to.gamma) return;
  Channels<Sum> gamma(inverse_deviation);
  for (std::size_t c = 0; c < gamma.size(); ++c) gamma[c] *= sums.products[c];
  put(to.gamma.to.as<Sum>(), gamma.data(), channels, to.gamma.accumulate);
}

/// With m rows, x^ = (x - mean) i and i = 1 / sqrt(variance + epsilon): the mean and the variance depend on every x of
/// the channel, which takes from dz its mean and its part along x^: dx = gamma i (dz - mean(dz) - x^ mean(dz x^)).
/// As three channel vectors: dx = scale dz + (x - mean) along + constant.
template <class Sum>
struct InputGradient {
  Channels<Sum> along, constant;

  InputGradient(const ChannelAffine<Sum>& map, const Slopes<Sum>& sums, Index rows)
      : along(map.mean.size()), constant(map.mean.size()) {
    for (std::size_t c = 0; c < along.size(); ++c) {
      const Sum inverse = map.inverse_deviation[c];
      along[c] = -map.scale[c] * inverse * inverse * sums.products[c] / static_cast<Sum>(rows);
      constant[c] = -map.scale[c] * sums.slopes[c] / static_cast<Sum>(rows);
    }
  }
};

}  // namespace graft::cpu
