#include "cpu/batch_norm.h"

#include "cpu/activate_row.h"

// A tensor is a list of rows of channels. Sums over rows are made in blocks of rows, whose number depends on the shape
// alone, so that results do not depend on the number of threads.
namespace graft::kernels::cpu {
namespace {

using graft::cpu::ChannelAffine;
using graft::cpu::Moments;
using graft::cpu::put;
using graft::cpu::Slopes;

template <class T>
using Sums = graft::cpu::Channels<Accumulator<T>>;

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

template <class T>
Moments batch_moments(const Operand& x) {
  const Index channels = x.shape.channels(), rows = x.shape.rows(), block = rows_a_block(channels);
  Sums<T> means(static_cast<std::size_t>((rows + block - 1) / block * channels)), squares(means.size());
  parallel_ranges(rows, block, [&](Index begin, Index end) {
    const Index at = begin / block * channels;
    moments(x.as<T>() + begin * x.pitch, x.pitch, end - begin, channels, means.data() + at, squares.data() + at);
  });
  return graft::cpu::merge_moments(means, squares, channels, rows, block);
}

template <class T>
void apply(const ChannelAffine<Accumulator<T>>& map, Activation activation, const Operand& x, const Operand& residual,
           const Operand& y) {
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

// Rows of dz, which are those of dy where the activation is linear.
template <class T>
class SlopeRows {
 public:
  SlopeRows(Activation activation, const ChannelAffine<Accumulator<T>>& map, const Operand& x, const Operand& dy)
      : activation_(activation), map_(map), x_(x), dy_(dy) {
    if (activation == Activation::linear) return;
    values_.resize(map.mean.size());
    slopes_.resize(map.mean.size());
  }
  const T* operator()(Index row) {
    const T* dy = dy_.as<T>() + row * dy_.pitch;
    if (activation_ == Activation::linear) return dy;
    const auto channels = static_cast<Index>(values_.size());
    const T* residual = nullptr;
    affine(x_.as<T>() + row * x_.pitch, map_.mean.data(), map_.scale.data(), map_.shift.data(), residual,
           values_.data(), channels);
    graft::cpu::activate_row(activation_, values_.data(), channels);
    for (std::size_t c = 0; c < values_.size(); ++c) {
      const auto y = static_cast<Accumulator<T>>(convert<T>(values_[c]));  // as forward wrote it
      slopes_[c] = derivative(activation_, y) != 0 ? dy[c] : T{};
    }
    return slopes_.data();
  }

 private:
  Activation activation_;
  const ChannelAffine<Accumulator<T>>& map_;
  const Operand &x_, &dy_;
  Sums<T> values_;
  std::vector<T> slopes_;
};

template <class T>
Slopes<Accumulator<T>> slopes_of(Activation activation, const Operand& x, const Operand& dy,
                                 const ChannelAffine<Accumulator<T>>& map) {
  const Index channels = dy.shape.channels(), rows = dy.shape.rows(), block = rows_a_block(channels);
  Sums<T> slopes(static_cast<std::size_t>((rows + block - 1) / block * channels)), products(slopes.size());
  parallel_ranges(rows, block, [&](Index begin, Index end) {
    const Index at = begin / block * channels;
    SlopeRows<T> dz(activation, map, x, dy);
    for (Index row = begin; row < end; ++row) {
      const T* slope = dz(row);
      if (x)
        add_slopes(x.as<T>() + row * x.pitch, slope, map.mean.data(), slopes.data() + at, products.data() + at,
                   channels);
      else
        graft::cpu::add_scaled(slopes.data() + at, Accumulator<T>(1), slope, channels);
    }
  });
  return {slopes, products, channels};
}

}  // namespace

void batch_norm_batch(Context&, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                      const Operand& beta, const Operand& residual, const ChannelStatistics& moving, const Operand& y,
                      const ChannelStatistics& saved) {
  dispatch_floating("batch_norm", x.dtype, [&]<class T>(Type<T>) {
    const auto map =
        graft::cpu::batch_affine<Accumulator<T>>(a, batch_moments<T>(x), x.shape.rows(), gamma, beta, moving, saved);
    apply<T>(map, a.activation, x, residual, y);
  });
}

void batch_norm_moving(Context&, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                       const Operand& beta, const Operand& residual, const ChannelStatistics& moving,
                       const Operand& y) {
  dispatch_floating("batch_norm", x.dtype, [&]<class T>(Type<T>) {
    apply<T>(graft::cpu::moving_affine<Accumulator<T>>(a, gamma, beta, moving), a.activation, x, residual, y);
  });
}

void batch_norm_batch_backward(Context&, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                               const Operand& beta, const ChannelStatistics& saved, const Operand& dy,
                               const BatchNormGradients& to) {
  dispatch_floating("batch_norm", dy.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const Index channels = dy.shape.channels(), rows = dy.shape.rows();
    const auto map = graft::cpu::saved_affine<Sum>(channels, x, gamma, beta, saved);
    const Slopes<Sum> sums = slopes_of<T>(a.activation, x, dy, map);
    graft::cpu::put_parameters(sums, map.inverse_deviation, to);
    if (!to.x) return;
    const graft::cpu::InputGradient<Sum> of_x(map, sums, rows);
    const Sums<T> none(map.mean.size());
    parallel_ranges(rows, rows_a_block(channels), [&](Index begin, Index end) {
      Sums<T> values(static_cast<std::size_t>(channels)), direct(values.size());
      SlopeRows<T> dz(a.activation, map, x, dy);
      for (Index row = begin; row < end; ++row) {
        const T* residual = nullptr;
        affine(x.as<T>() + row * x.pitch, map.mean.data(), of_x.along.data(), of_x.constant.data(), residual,
               values.data(), channels);
        affine(dz(row), none.data(), map.scale.data(), values.data(), residual, direct.data(), channels);
        put(to.x.to.as<T>() + row * to.x.to.pitch, direct.data(), channels, to.x.accumulate);
      }
    });
  });
}

void batch_norm_moving_backward(Context&, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                                const ChannelStatistics& moving, const Operand& dz, const BatchNormGradients& to) {
  dispatch_floating("batch_norm", dz.dtype, [&]<class T>(Type<T>) {
    const Index channels = dz.shape.channels();
    using Sum = Accumulator<T>;
    ChannelAffine<Sum> map(channels, gamma, {});
    if (moving.mean) map = graft::cpu::moving_affine<Sum>(a, gamma, {}, moving);
    if (to.gamma || to.beta)
      graft::cpu::put_parameters(slopes_of<T>(Activation::linear, x, dz, map), map.inverse_deviation, to);
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
