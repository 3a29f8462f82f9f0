#include "kernels/conv2d.h"

#include <vector>

#include "core/parallel.h"
#include "cpu/vector_ops.h"
#include "kernels/activation_math.h"

// A convolution is a sum of dot products: an output pixel and one kernel row meet in a stretch of neighbouring input
// pixels, whose channels lie side by side in memory both in the image [N, H, W, C] and in the weights [Co, Kh, Kw, C].
// All three kernels below walk these stretches.
namespace graft::kernels::cpu {
namespace {

using graft::cpu::add_scaled;
using graft::cpu::dot;
using graft::cpu::put;

// `count` numbers that lie side by side, from `image` in the input and from `weight` in one output channel's weights.
struct Stretch {
  Index image, weight, count;
};

// Calls body(stretch) for each stretch of the window of output pixel (row, column) that lies inside image n, for kernel
// row p and one group.
template <class Body>
void for_each_stretch(const ConvGeometry& g, Index pitch, Index group, Index n, Index row, Index column, Index p,
                      const Body& body) {
  const Index i = row * g.stride_height - g.pad_top + p * g.dilation_height;
  if (i < 0 || i >= g.height) return;
  const Index first = column * g.stride_width - g.pad_left;
  const Index in = g.in_group();
  const auto at = [&](Index q, Index pixels) {
    return Stretch{((n * g.height + i) * g.width + first + q * g.dilation_width) * pitch + group * in,
                   (p * g.kernel_width + q) * in, pixels * in};
  };
  if (g.dilation_width == 1 && in == pitch) {  // neighbouring pixels are neighbours in memory
    const Index begin = std::max<Index>(0, -first);
    const Index end = std::min(g.kernel_width, g.width - first);
    if (begin < end) body(at(begin, end - begin));
    return;
  }
  for (Index q = 0; q < g.kernel_width; ++q) {
    const Index j = first + q * g.dilation_width;
    if (j >= 0 && j < g.width) body(at(q, 1));
  }
}

}  // namespace

void conv2d_forward(Context&, const ConvGeometry& g, const Operand& x, const Operand& w, const Operand& bias,
                    const Operand& residual, Activation activation, const Operand& y) {
  dispatch_weighted("conv2d", x.dtype, w.dtype, [&]<class T, class W>(Type<T>, Type<W>) {
    using Sum = Accumulator<T>;
    const Index weights = g.kernel_height * g.kernel_width * g.in_group();
    parallel_for(g.batch * g.out_height, [&](Index image_row) {
      const Index n = image_row / g.out_height, row = image_row % g.out_height;
      for (Index co = 0; co < g.out_channels;
           ++co) {  // outside the columns, so that one channel's weights stay in the cache for a whole row
        const W* wc = w.as<W>() + co * weights;
        for (Index column = 0; column < g.out_width; ++column) {
          Sum sum = bias ? bias.as<Sum>()[co] : Sum(0);
          for (Index p = 0; p < g.kernel_height; ++p) {
            for_each_stretch(g, x.pitch, co / g.out_group(), n, row, column, p,
                             [&](const Stretch& s) { sum += dot(x.as<T>() + s.image, wc + s.weight, s.count); });
          }
          const Index pixel = image_row * g.out_width + column;
          if (residual) sum += static_cast<Sum>(residual.as<T>()[pixel * residual.pitch + co]);
          y.as<T>()[pixel * y.pitch + co] = convert<T>(activate(activation, sum));
        }
      }
    });
  });
}

// dx[i, j, c] = sum over the windows that cover (i, j) of dz[window, co] w[co, p, q, c]. A thread owns a row of the
// input and collects from all windows.
void conv2d_backward_input(Context&, const ConvGeometry& g, const Operand& dz, const Operand& w, Gradient dx) {
  dispatch_weighted("conv2d", dx.to.dtype, w.dtype, [&]<class T, class W>(Type<T>, Type<W>) {
    using Sum = Accumulator<T>;
    const Index weights = g.kernel_height * g.kernel_width * g.in_group();
    parallel_for(g.batch * g.height, [&](Index image_row) {
      const Index n = image_row / g.height, i = image_row % g.height;
      const Index row_start = image_row * g.width * g.channels;
      std::vector<Sum> sums(static_cast<std::size_t>(g.width * g.channels));
      for (Index p = 0; p < g.kernel_height; ++p) {
        const Index above = i + g.pad_top - p * g.dilation_height;
        if (above < 0 || above % g.stride_height != 0 || above / g.stride_height >= g.out_height) continue;
        const Index row = above / g.stride_height;
        for (Index co = 0; co < g.out_channels; ++co) {
          const W* wc = w.as<W>() + co * weights;
          for (Index column = 0; column < g.out_width; ++column) {
            const T slope = dz.as<T>()[((n * g.out_height + row) * g.out_width + column) * dz.pitch + co];
            for_each_stretch(g, g.channels, co / g.out_group(), n, row, column, p, [&](const Stretch& s) {
              add_scaled(sums.data() + (s.image - row_start), static_cast<Sum>(slope), wc + s.weight, s.count);
            });
          }
        }
      }
      for (Index j = 0; j < g.width; ++j) {
        put(dx.to.as<T>() + (image_row * g.width + j) * dx.to.pitch, sums.data() + j * g.channels, g.channels,
            dx.accumulate);
      }
    });
  });
}

// dw[co, p, q, c] = sum over output pixels of dz[pixel, co] x[pixel of the window, c]. A thread owns a few output
// channels and walks all pixels.
void conv2d_backward_weight(Context&, const ConvGeometry& g, const Operand& x, const Operand& dz, Gradient dw) {
  constexpr Index kChannelsAtOnce = 8;  // each stretch of x is read from memory once for so many output channels
  dispatch_weighted("conv2d", x.dtype, dw.to.dtype, [&]<class T, class W>(Type<T>, Type<W>) {
    using Sum = Accumulator<T>;
    const Index weights = g.kernel_height * g.kernel_width * g.in_group();
    parallel_ranges(g.out_channels, kChannelsAtOnce, [&](Index begin, Index end) {
      std::vector<Sum> sums(static_cast<std::size_t>((end - begin) * weights));
      for (Index image_row = 0; image_row < g.batch * g.out_height; ++image_row) {
        const Index n = image_row / g.out_height, row = image_row % g.out_height;
        for (Index column = 0; column < g.out_width; ++column) {
          const T* slopes = dz.as<T>() + (image_row * g.out_width + column) * dz.pitch;
          for (Index co = begin; co < end; ++co) {
            for (Index p = 0; p < g.kernel_height; ++p) {
              for_each_stretch(g, x.pitch, co / g.out_group(), n, row, column, p, [&](const Stretch& s) {
                add_scaled(sums.data() + (co - begin) * weights + s.weight, static_cast<Sum>(slopes[co]),
                           x.as<T>() + s.image, s.count);
              });
            }
          }
        }
      }
      put(dw.to.as<W>() + begin * weights, sums.data(), (end - begin) * weights, dw.accumulate);
    });
  });
}

}  // namespace graft::kernels::cpu
