#include "kernels/depthwise_conv2d.h"

#include <vector>

#include "graft/core/tensor.h"

#include "core/parallel.h"
#include "cpu/activate_row.h"
#include "cpu/vector.h"
#include "cpu/vector_ops.h"
#include "cpu/window_taps.h"

// Channels lie side by side in the image and in the weights, and do not meet: every sum below runs over a block of
// channels at once, kept in registers while it walks the taps (results and image gradient) or a row of pixels (weight
// gradient). A multiplier M is a depthwise convolution of the image with each channel repeated M times, so the kernels
// themselves know none.
namespace graft::kernels::cpu {
namespace {

using graft::cpu::Floats;
using graft::cpu::for_each_pixel_under;
using graft::cpu::for_each_window_over;
using graft::cpu::has_lanes;
using graft::cpu::kLanes;
using graft::cpu::load;
using graft::cpu::put;
using graft::cpu::store;

// Calls body(first channel, vectors) for blocks of four vectors, then of one, and returns the first channel that is
// left: four independent sums hide the latency of an addition.
template <class Body>
GRAFT_INLINE inline Index for_each_block(Index channels, const Body& body) {
  Index c = 0;
  for (; c + 4 * kLanes <= channels; c += 4 * kLanes) body(c, std::integral_constant<int, 4>{});
  for (; c + kLanes <= channels; c += kLanes) body(c, std::integral_constant<int, 1>{});
  return c;
}

// sums[c] += sum over t of taps[t][c] weights[t][c].
template <class T, class Sum>
GRAFT_INLINE inline void add_taps_of(const std::vector<const T*>& taps, const std::vector<const Sum*>& weights,
                                     Sum* sums, Index channels) {
  Index c = 0;
  if constexpr (has_lanes<T>) {
    c = for_each_block(channels, [&]<int N>(Index at, std::integral_constant<int, N>) GRAFT_INLINE {
      Floats sum[N];
      for (int v = 0; v < N; ++v) load(sum[v], sums + at + v * kLanes);
      for (std::size_t t = 0; t < taps.size(); ++t) {
        for (int v = 0; v < N; ++v) {
          Floats x, w;
          load(x, taps[t] + at + v * kLanes);
          load(w, weights[t] + at + v * kLanes);
          sum[v] += x * w;
        }
      }
      for (int v = 0; v < N; ++v) store(sums + at + v * kLanes, sum[v]);
    });
  }
  for (; c < channels; ++c) {
    for (std::size_t t = 0; t < taps.size(); ++t) sums[c] += static_cast<Sum>(taps[t][c]) * weights[t][c];
  }
}

// `pixels` runs of channels, `step` elements apart.
template <class T>
struct Row {
  const T* first;
  Index step;
};

// sums[c] += sum over k < pixels of a[k][c] b[k][c].
template <class T, class Sum>
GRAFT_INLINE inline void add_products_of(Row<T> a, Row<T> b, Index pixels, Sum* sums, Index channels) {
  Index c = 0;
  if constexpr (has_lanes<T>) {
    c = for_each_block(channels, [&]<int N>(Index at, std::integral_constant<int, N>) GRAFT_INLINE {
      Floats sum[N];
      for (int v = 0; v < N; ++v) load(sum[v], sums + at + v * kLanes);
      for (Index pixel = 0; pixel < pixels; ++pixel) {
        for (int v = 0; v < N; ++v) {
          Floats x, y;
          load(x, a.first + pixel * a.step + at + v * kLanes);
          load(y, b.first + pixel * b.step + at + v * kLanes);
          sum[v] += x * y;
        }
      }
      for (int v = 0; v < N; ++v) store(sums + at + v * kLanes, sum[v]);
    });
  }
  for (; c < channels; ++c) {
    for (Index pixel = 0; pixel < pixels; ++pixel) {
      sums[c] += static_cast<Sum>(a.first[pixel * a.step + c]) * static_cast<Sum>(b.first[pixel * b.step + c]);
    }
  }
}

// f64 and f16 take the templates as they are; what networks run in is compiled for each instruction set.
template <class T, class Sum>
void add_taps(const std::vector<const T*>& taps, const std::vector<const Sum*>& weights, Sum* sums, Index channels) {
  add_taps_of(taps, weights, sums, channels);
}
GRAFT_CPU_CLONES void add_taps(const std::vector<const float*>& taps, const std::vector<const float*>& weights,
                               float* sums, Index channels) {
  add_taps_of(taps, weights, sums, channels);
}
GRAFT_CPU_CLONES void add_taps(const std::vector<const bfloat16*>& taps, const std::vector<const float*>& weights,
                               float* sums, Index channels) {
  add_taps_of(taps, weights, sums, channels);
}
template <class T, class Sum>
void add_products(Row<T> a, Row<T> b, Index pixels, Sum* sums, Index channels) {
  add_products_of(a, b, pixels, sums, channels);
}
GRAFT_CPU_CLONES void add_products(Row<float> a, Row<float> b, Index pixels, float* sums, Index channels) {
  add_products_of(a, b, pixels, sums, channels);
}
GRAFT_CPU_CLONES void add_products(Row<bfloat16> a, Row<bfloat16> b, Index pixels, float* sums, Index channels) {
  add_products_of(a, b, pixels, sums, channels);
}

// The weights as sums are kept, each rounded to the type of the activations first.
template <class T>
std::vector<Accumulator<T>> rounded(const Operand& w) {
  std::vector<Accumulator<T>> values(static_cast<std::size_t>(w.elements()));
  for (Index i = 0; i < w.elements(); ++i) {
    const T value = w.dtype == dtype_of<T> ? w.as<T>()[i] : convert<T>(w.as<Accumulator<T>>()[i]);
    values[static_cast<std::size_t>(i)] = static_cast<Accumulator<T>>(value);
  }
  return values;
}

// The image with each channel repeated M times; x itself for M = 1.
class Repeated {
 public:
  Repeated(const DepthwiseGeometry& g, const Operand& x) : image_(x) {
    if (g.multiplier == 1) return;
    memory_ = Tensor::empty(x.shape.with(3, g.out_channels()), x.dtype);
    image_ = memory_;
    dispatch_floating("depthwise_conv2d", x.dtype, [&]<class T>(Type<T>) {
      parallel_for(g.batch * g.height * g.width, [&](Index pixel) {
        T* to = image_.as<T>() + pixel * image_.pitch;
        for (Index k = 0; k < g.out_channels(); ++k) to[k] = x.as<T>()[pixel * x.pitch + k / g.multiplier];
      });
    });
  }
  const Operand& get() const { return image_; }

 private:
  Tensor memory_;
  Operand image_;
};

}  // namespace

void depthwise_conv2d_forward(Context&, const DepthwiseGeometry& g, const Operand& x, const Operand& w,
                              const Operand& bias, Activation activation, const Operand& y) {
  const Repeated image(g, x);
  const Index channels = g.out_channels();
  dispatch_floating("depthwise_conv2d", x.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const std::vector<Sum> kernel = rounded<T>(w);
    const std::vector<Sum> start = bias ? std::vector<Sum>(bias.as<Sum>(), bias.as<Sum>() + channels)
                                        : std::vector<Sum>(static_cast<std::size_t>(channels));
    parallel_for(g.batch * g.out_height, [&](Index image_row) {
      const Index n = image_row / g.out_height, row = image_row % g.out_height;
      std::vector<const T*> taps;
      std::vector<const Sum*> weights;
      std::vector<Sum> sums;
      for (Index column = 0; column < g.out_width; ++column) {
        taps.clear();
        weights.clear();
        sums = start;
        for_each_pixel_under(g, row, column, [&](Index tap, Index pixel) {
          taps.push_back(image.get().as<T>() + (n * g.height * g.width + pixel) * image.get().pitch);
          weights.push_back(kernel.data() + tap * channels);
        });
        add_taps(taps, weights, sums.data(), channels);
        graft::cpu::activate_row(activation, sums.data(), channels);
        put(y.as<T>() + (image_row * g.out_width + column) * y.pitch, sums.data(), channels, false);
      }
    });
  });
}

// dx[pixel, c] = sum over the windows that cover the pixel, and over m, of dz[window, cM+m] w[tap, cM+m].
void depthwise_conv2d_backward_input(Context&, const DepthwiseGeometry& g, const Operand& dz, const Operand& w,
                                     Gradient dx) {
  const Index channels = g.out_channels();
  dispatch_floating("depthwise_conv2d", dz.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const std::vector<Sum> kernel = rounded<T>(w);
    parallel_for(g.batch * g.height, [&](Index image_row) {
      const Index n = image_row / g.height, i = image_row % g.height;
      std::vector<const T*> taps;
      std::vector<const Sum*> weights;
      std::vector<Sum> sums;
      for (Index j = 0; j < g.width; ++j) {
        taps.clear();
        weights.clear();
        sums.assign(static_cast<std::size_t>(channels), Sum(0));
        for_each_window_over(g, i, j, [&](Index tap, Index row, Index column) {
          taps.push_back(dz.as<T>() + ((n * g.out_height + row) * g.out_width + column) * dz.pitch);
          weights.push_back(kernel.data() + tap * channels);
        });
        add_taps(taps, weights, sums.data(), channels);
        for (Index c = 0; g.multiplier > 1 && c < g.channels; ++c) {  // sums of M neighbours move to the front
          Sum sum = 0;
          for (Index m = 0; m < g.multiplier; ++m) sum += sums[static_cast<std::size_t>(c * g.multiplier + m)];
          sums[static_cast<std::size_t>(c)] = sum;
        }
        put(dx.to.as<T>() + (image_row * g.width + j) * dx.to.pitch, sums.data(), g.channels, dx.accumulate);
      }
    });
  });
}

// dw[tap, k] = sum over output pixels of x[pixel under the tap, k] dz[pixel, k], in blocks of rows whose number depends
// on the shape alone.
void depthwise_conv2d_backward_weight(Context&, const DepthwiseGeometry& g, const Operand& x, const Operand& dz,
                                      Gradient dw) {
  constexpr Index kBlocks = 64;
  const Repeated image(g, x);
  const Index channels = g.out_channels(), weights = g.kernel_height * g.kernel_width * channels;
  const Index rows = g.batch * g.out_height, rows_a_block = std::max<Index>(1, (rows + kBlocks - 1) / kBlocks);
  dispatch_floating("depthwise_conv2d", x.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const Index blocks = std::max<Index>(1, (rows + rows_a_block - 1) / rows_a_block);
    std::vector<Sum> partial(static_cast<std::size_t>(blocks * weights));
    parallel_ranges(rows, rows_a_block, [&](Index begin, Index end) {
      Sum* sums = partial.data() + begin / rows_a_block * weights;
      for (Index image_row = begin; image_row < end; ++image_row) {
        const Index n = image_row / g.out_height, row = image_row % g.out_height;
        for (Index p = 0; p < g.kernel_height; ++p) {
          const Index i = row * g.stride_height - g.pad_top + p * g.dilation_height;
          if (i < 0 || i >= g.height) continue;
          for (Index q = 0; q < g.kernel_width; ++q) {
            // Columns whose pixel under the tap lies inside: `first + column * stride` in 0 .. width-1.
            const Index first = q * g.dilation_width - g.pad_left;
            const auto columns = graft::cpu::taps_inside(first, g.out_width, g.stride_width, g.width);
            if (columns.begin == columns.end) continue;
            const Index pixel = (n * g.height + i) * g.width + first + columns.begin * g.stride_width;
            const Row<T> from{image.get().as<T>() + pixel * image.get().pitch, g.stride_width * image.get().pitch};
            const Row<T> slopes{dz.as<T>() + (image_row * g.out_width + columns.begin) * dz.pitch, dz.pitch};
            add_products(from, slopes, columns.end - columns.begin, sums + (p * g.kernel_width + q) * channels,
                         channels);
          }
        }
      }
    });
    for (Index block = 1; block < blocks; ++block)
      graft::cpu::add_scaled(partial.data(), Sum(1), partial.data() + block * weights, weights);
    if (dw.to.dtype == x.dtype) return put(dw.to.as<T>(), partial.data(), weights, dw.accumulate);
    put(dw.to.as<Sum>(), partial.data(), weights, dw.accumulate);
  });
}

}  // namespace graft::kernels::cpu
