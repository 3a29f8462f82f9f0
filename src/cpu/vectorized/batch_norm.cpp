#include "cpu/batch_norm.h"

#include "cpu/vectorized/machine.h"
#include "cpu/vectorized/norm_rows.h"
#include "cpu/vectorized/share.h"

// Two passes over memory each way: sums over the rows, then a map of each row. Who wrote a tensor left its last rows in
// the cache: the first pass begins with these, and leaves the first rows there for the second.
namespace graft::kernels::vectorized {
namespace {

using graft::cpu::ChannelAffine;
using graft::cpu::Channels;
using graft::cpu::Slopes;

// Blocks of rows, whose number depends on the shape alone, so that sums do not depend on the number of threads. They
// are no longer than sums of so many terms stay exact, and no shorter than their sums are worth writing down.
struct Blocks {
  Index rows, size, count;

  explicit Blocks(const Shape& shape) : rows(shape.rows()) {
    constexpr Index kBlocks = 64, kMostRows = 2048, kLeastElements = 1 << 16;
    const Index least = std::clamp<Index>(kLeastElements / shape.channels(), 1, kMostRows);
    size = std::clamp((rows + kBlocks - 1) / kBlocks, least, kMostRows);
    count = (rows + size - 1) / size;
  }
  // Calls body(block, first row, rows), from the last to the first.
  template <class Body>
  void backwards(const Body& body) const {
    parallel_for(count, [&](Index i) { call(body, count - 1 - i); });
  }
  template <class Body>
  void forwards(const Body& body) const {
    parallel_for(count, [&](Index i) { call(body, i); });
  }

 private:
  template <class Body>
  void call(const Body& body, Index block) const {
    body(block, block * size, std::min(size, rows - block * size));
  }
};

// True if what is written belongs around the caches: not over what was read, which is in them.
template <class T>
bool streams_to(const Operand& y, const void* read, const void* also_read) {
  const Result<T> result{.data = elements<T>(y), .pitch = y.pitch, .columns = y.shape.channels()};
  return y.data != read && y.data != also_read && result.streams(y.shape.rows());
}

template <class T>
T* row_of(const Operand& x, Index row) {
  return x ? elements<T>(x) + row * x.pitch : nullptr;
}

template <class T>
graft::cpu::Moments batch_moments(const Operand& x) {
  const Index channels = x.shape.channels();
  const Blocks blocks(x.shape);
  Channels<float> means(static_cast<std::size_t>(blocks.count * channels)), squares(means.size());
  blocks.backwards([&](Index block, Index first, Index rows) {
    sum_moments(MomentRows<T>{.x = row_of<T>(x, first),
                              .pitch = x.pitch,
                              .rows = rows,
                              .channels = channels,
                              .means = means.data() + block * channels,
                              .squares = squares.data() + block * channels});
  });
  return graft::cpu::merge_moments(means, squares, channels, x.shape.rows(), blocks.size);
}

// y = activation((x - mean) scale + shift + residual).
template <class T>
void apply(const ChannelAffine<float>& map, Activation activation, const Operand& x, const Operand& residual,
           const Operand& y) {
  const bool streams = streams_to<T>(y, x.data, residual.data);
  Blocks(x.shape).forwards([&](Index, Index first, Index rows) {
    map_rows(AffineRows<T>{.x = row_of<T>(x, first),
                           .x_pitch = x.pitch,
                           .mean = map.mean.data(),
                           .scale = map.scale.data(),
                           .shift = map.shift.data(),
                           .residual = row_of<T>(residual, first),
                           .residual_pitch = residual.pitch,
                           .y = row_of<T>(y, first),
                           .y_pitch = y.pitch,
                           .rows = rows,
                           .channels = x.shape.channels(),
                           .clamp = Result<T>{.activation = activation}.clamp(),
                           .streams = streams});
    if (streams) finish_streams();
  });
}

// What backward reads of the rows from `first` on.
template <class T>
MaskedRows<T> rows_from(Activation activation, const Operand& x, const Operand& dy, const ChannelAffine<float>& map,
                        Index first) {
  return {.x = row_of<T>(x, first),
          .x_pitch = x.pitch,
          .dy = row_of<T>(dy, first),
          .dy_pitch = dy.pitch,
          .mean = map.mean.data(),
          .scale = map.scale.data(),
          .shift = map.shift.data(),
          .mask = Result<float>{.activation = activation}.clamp()};
}

template <class T>
Slopes<float> slopes_of(Activation activation, const Operand& x, const Operand& dy, const ChannelAffine<float>& map) {
  const Index channels = dy.shape.channels();
  const Blocks blocks(dy.shape);
  Channels<float> slopes(static_cast<std::size_t>(blocks.count * channels)), products(slopes.size());
  blocks.backwards([&](Index block, Index first, Index rows) {
    sum_slopes(SlopeRows<T>{.from = rows_from<T>(activation, x, dy, map, first),
                            .rows = rows,
                            .channels = channels,
                            .slopes = slopes.data() + block * channels,
                            .products = products.data() + block * channels});
  });
  return {slopes, products, channels};
}

template <class T>
void batch_backward(Activation activation, const Operand& x, const Operand& gamma, const Operand& beta,
                    const ChannelStatistics& saved, const Operand& dy, const BatchNormGradients& to) {
  const Index channels = dy.shape.channels();
  const auto map = graft::cpu::saved_affine<float>(channels, x, gamma, beta, saved);
  const Slopes<float> sums = slopes_of<T>(activation, x, dy, map);
  graft::cpu::put_parameters(sums, map.inverse_deviation, to);
  if (!to.x) return;
  const graft::cpu::InputGradient<float> of_x(map, sums, dy.shape.rows());
  const Operand& dx = to.x.to;
  const bool streams = streams_to<T>(dx, dy.data, to.x.accumulate ? dx.data : nullptr);
  Blocks(dy.shape).forwards([&](Index, Index first, Index rows) {
    map_gradient(GradientRows<T>{.from = rows_from<T>(activation, x, dy, map, first),
                                 .along = of_x.along.data(),
                                 .constant = of_x.constant.data(),
                                 .dx = row_of<T>(dx, first),
                                 .dx_pitch = dx.pitch,
                                 .rows = rows,
                                 .channels = channels,
                                 .accumulate = to.x.accumulate,
                                 .streams = streams});
    if (streams) finish_streams();
  });
}

template <class T>
void moving_backward(const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                     const ChannelStatistics& moving, const Operand& dz, const BatchNormGradients& to) {
  ChannelAffine<float> map(dz.shape.channels(), gamma, {});
  if (moving.mean) map = graft::cpu::moving_affine<float>(a, gamma, {}, moving);
  if (to.gamma || to.beta)
    graft::cpu::put_parameters(slopes_of<T>(Activation::linear, x, dz, map), map.inverse_deviation, to);
  if (!to.x) return;
  std::fill(map.mean.begin(), map.mean.end(), 0.f);  // dx = scale dz
  apply<T>(map, Activation::linear, dz, to.x.accumulate ? to.x.to : Operand{}, to.x.to);
}

bool usable(const Operand& x) {
  return has_avx2() && (x.dtype == DType::f32 || x.dtype == DType::bf16) && x.elements() > 0;
}
bool clamps(const BatchNormAttributes& a) { return a.activation <= Activation::relu6; }

// Calls body(T()) with the type of the elements.
template <class Body>
void with_elements(const Operand& x, const Body& body) {
  if (x.dtype == DType::f32) return body(float());
  body(Half());
}

}  // namespace

bool batch_norm_batch_supports(const Context&, const BatchNormAttributes& a, const Operand& x, const Operand&,
                               const Operand&, const Operand&, const ChannelStatistics&, const Operand&,
                               const ChannelStatistics&) {
  return usable(x) && clamps(a);
}
void batch_norm_batch(Context&, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                      const Operand& beta, const Operand& residual, const ChannelStatistics& moving, const Operand& y,
                      const ChannelStatistics& saved) {
  with_elements(x, [&]<class T>(T) {
    const auto map =
        graft::cpu::batch_affine<float>(a, batch_moments<T>(x), x.shape.rows(), gamma, beta, moving, saved);
    apply<T>(map, a.activation, x, residual, y);
  });
}

bool batch_norm_moving_supports(const Context&, const BatchNormAttributes& a, const Operand& x, const Operand&,
                                const Operand&, const Operand&, const ChannelStatistics&, const Operand&) {
  return usable(x) && clamps(a);
}
void batch_norm_moving(Context&, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                       const Operand& beta, const Operand& residual, const ChannelStatistics& moving,
                       const Operand& y) {
  with_elements(x, [&]<class T>(T) {
    apply<T>(graft::cpu::moving_affine<float>(a, gamma, beta, moving), a.activation, x, residual, y);
  });
}

bool batch_norm_batch_backward_supports(const Context&, const BatchNormAttributes& a, const Operand&, const Operand&,
                                        const Operand&, const ChannelStatistics&, const Operand& dy,
                                        const BatchNormGradients&) {
  return usable(dy) && clamps(a);
}
void batch_norm_batch_backward(Context&, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                               const Operand& beta, const ChannelStatistics& saved, const Operand& dy,
                               const BatchNormGradients& to) {
  with_elements(dy, [&]<class T>(T) { batch_backward<T>(a.activation, x, gamma, beta, saved, dy, to); });
}

bool batch_norm_moving_backward_supports(const Context&, const BatchNormAttributes&, const Operand&, const Operand&,
                                         const ChannelStatistics&, const Operand& dz, const BatchNormGradients&) {
  return usable(dz);
}
void batch_norm_moving_backward(Context&, const BatchNormAttributes& a, const Operand& x, const Operand& gamma,
                                const ChannelStatistics& moving, const Operand& dz, const BatchNormGradients& to) {
  with_elements(dz, [&]<class T>(T) { moving_backward<T>(a, x, gamma, moving, dz, to); });
}

}  // namespace graft::kernels::vectorized
