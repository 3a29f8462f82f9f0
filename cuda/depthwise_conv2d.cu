#include "device/activate.h"
#include "device/channel_sums.h"
#include "device/numeric.h"
#include "device/window.h"
#include "kernels/depthwise_conv2d.h"

// Every output has Kh Kw products, two operations for each, and moves an input and an output: 9 operations for 4 bytes
// in bf16 with a 3x3 window. All kernels here are bound by memory, and then by the cache, which every tap reads from.
namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

constexpr int kStrip = 4;  // neighbouring results a thread makes: each weight is loaded once for all of them
constexpr unsigned kStripThreads =
    128;  // a strip takes up to 140 registers: three such blocks fit, two of 256 would not

// N weights as sums are kept, each rounded to the type of the activations first.
template <class T, int N, class W>
__device__ void load_weights(const W* from, Accumulator<T> (&weights)[N]) {
  constexpr int kStep = N < kVector<W> ? N : kVector<W>;
  GRAFT_UNROLL
  for (int first = 0; first < N; first += kStep) {
    const auto some = load<kStep>(from + first);
    GRAFT_UNROLL
    for (int k = 0; k < kStep; ++k) weights[first + k] = widen(narrow<T>(widen(some[k])));
  }
}

// The kernels' weights: that of tap t for channel c is first[t step + c]. A negative step reads the taps backwards.
template <class W>
struct Weights {
  const W* first;
  Index step;
};

// y (+)= activation(sum over the taps of x w + bias). A thread makes a strip of results of one row for N channels.
// Where Stride is not 0, it is the stride, the kernel is three columns wide and not dilated: the pixels under a strip's
// windows are then loaded once a row of the kernel, 6 instead of 12 with stride 1.
template <int Stride, int N, class T, class W>
__global__ void __launch_bounds__(kStripThreads)
    depthwise_conv2d_kernel(WindowSizes g, int multiplier, const T* x, Index x_pitch, Weights<W> w,
                            const Accumulator<T>* bias, Activation activation, T* y, Index y_pitch, bool accumulate) {
  using Sum = Accumulator<T>;
  const int vectors = g.channels * multiplier / N, strips = (g.out_width + kStrip - 1) / kStrip;
  for_each_of_images(g.out_height * strips * vectors, g.batch, [&](int image, int item) {
    const int channel = item % vectors * N, rest = item / vectors;
    const int row = rest / strips, first_column = rest % strips * kStrip;
    const T* from = x + g.pixel_offset(image, x_pitch) + (multiplier == 1 ? channel : channel / multiplier);
    Sum sums[kStrip][N] = {};
    if (bias != nullptr) {
      GRAFT_UNROLL
      for (int k = 0; k < N; ++k) {
        const Sum start = bias[channel + k];
        GRAFT_UNROLL
        for (int s = 0; s < kStrip; ++s) sums[s][k] = start;
      }
    }
    const Range rows = rows_inside(g, row);
    const int top = row * g.stride_height - g.pad_top, left = first_column * g.stride_width - g.pad_left;
    for (int p = rows.begin; p < rows.end; ++p) {
      const T* line = from + static_cast<Index>(top + p * g.dilation_height) * g.width * x_pitch;
      const W* tap = w.first + p * g.kernel_width * w.step + channel;
      if constexpr (Stride > 0) {
        constexpr int kColumns = 3, kUnder = (kStrip - 1) * Stride + kColumns;
        Vector<T, N> under[kUnder];
        GRAFT_UNROLL
        for (int c = 0; c < kUnder; ++c) {
          const int column = left + c;
          under[c] = column >= 0 && column < g.width ? load<N>(line + column * x_pitch) : Vector<T, N>{};
        }
        GRAFT_UNROLL
        for (int q = 0; q < kColumns; ++q) {
          Sum weights[N];
          load_weights<T>(tap + q * w.step, weights);
          GRAFT_UNROLL
          for (int s = 0; s < kStrip; ++s) {
            GRAFT_UNROLL
            for (int k = 0; k < N; ++k) sums[s][k] += widen(under[s * Stride + q][k]) * weights[k];
          }
        }
      } else {
        for (int q = 0; q < g.kernel_width; ++q) {
          Sum weights[N];
          load_weights<T>(tap + q * w.step, weights);
          GRAFT_UNROLL
          for (int s = 0; s < kStrip; ++s) {
            const int column = left + s * g.stride_width + q * g.dilation_width;
            if (column < 0 || column >= g.width) continue;
            const Vector<T, N> here = load<N>(line + column * x_pitch);
            GRAFT_UNROLL
            for (int k = 0; k < N; ++k) sums[s][k] += widen(here[k]) * weights[k];
          }
        }
      }
    }
    T* to = y + g.window_offset(image, y_pitch) + (row * g.out_width + first_column) * y_pitch + channel;
    GRAFT_UNROLL
    for (int s = 0; s < kStrip; ++s) {
      if (first_column + s >= g.out_width) continue;
      activate_values(activation, sums[s]);
      put(to + s * y_pitch, sums[s], accumulate);
    }
  });
}

// dx[pixel, c] (+)= sum over the windows that cover the pixel, and over m, of dz[window, cM+m] w[tap, cM+m]. A thread
// makes N channels of a pixel, which with a stride of 2 lies under a quarter of the taps.
template <int N, class T, class W>
__global__ void depthwise_conv2d_gather_kernel(WindowSizes g, int multiplier, const T* dz, Index dz_pitch, const W* w,
                                               T* dx, Index dx_pitch, bool accumulate) {
  using Sum = Accumulator<T>;
  const int vectors = g.channels / N, out_channels = g.channels * multiplier;
  for_each_of_images(g.height * g.width * vectors, g.batch, [&](int image, int item) {
    const int channel = item % vectors * N, pixel = item / vectors;
    Sum sums[N] = {};
    for_each_window_over(g, pixel / g.width, pixel % g.width, [&](int tap, int row, int column) {
      const T* slopes = dz + g.window_offset(image, dz_pitch) + (row * g.out_width + column) * dz_pitch;
      for (int m = 0; m < multiplier; ++m) {  // N is 1 if there is more than one
        const int k = channel * multiplier + m;
        Sum weights[N];
        load_weights<T>(w + static_cast<Index>(tap) * out_channels + k, weights);
        const Vector<T, N> slope = load<N>(slopes + k);
        GRAFT_UNROLL
        for (int n = 0; n < N; ++n) sums[n] += widen(slope[n]) * weights[n];
      }
    });
    put(dx + g.pixel_offset(image, dx_pitch) + pixel * dx_pitch + channel, sums, accumulate);
  });
}

constexpr int kTapSide = 3;  // a thread keeps the sums of 3x3 taps, all that the usual kernel has

constexpr int tiles(Index taps) { return static_cast<int>((taps + kTapSide - 1) / kTapSide); }

// What the weight gradient sums over output pixels for each of 3x3 taps: x[pixel under the tap] dz[pixel]. Larger
// kernels take a layer of the grid for each such tile of theirs.
template <class T>
struct TapProducts {
  static constexpr int kRowsAtOnce = 1;

  WindowSizes g;
  int multiplier;
  const T* x;
  Index x_pitch;
  const T* dz;
  Index dz_pitch;

  __device__ int first_row() const { return static_cast<int>(blockIdx.z) / tiles(g.kernel_width) * kTapSide; }
  __device__ int first_column() const { return static_cast<int>(blockIdx.z) % tiles(g.kernel_width) * kTapSide; }

  __device__ int slots() const { return g.kernel_height * g.kernel_width; }
  __device__ int slot(int k) const {
    const int p = first_row() + k / kTapSide, q = first_column() + k % kTapSide;
    return p < g.kernel_height && q < g.kernel_width ? p * g.kernel_width + q : -1;
  }

  template <int N, class Sum>
  __device__ void add(Index position, int channel, Sum (&sums)[kTapSide * kTapSide][N]) const {
    const int window = static_cast<int>(position), column = window % g.out_width, line = window / g.out_width;
    const int row = line % g.out_height, image = line / g.out_height;
    const Vector<T, N> slope = load<N>(dz + position * dz_pitch + channel);
    const T* from = x + g.pixel_offset(image, x_pitch) + (multiplier == 1 ? channel : channel / multiplier);
    const int p = first_row(), q = first_column();
    const int top = row * g.stride_height - g.pad_top + p * g.dilation_height;
    const int left = column * g.stride_width - g.pad_left + q * g.dilation_width;
    GRAFT_UNROLL
    for (int a = 0; a < kTapSide; ++a) {
      const int i = top + a * g.dilation_height;
      if (i < 0 || i >= g.height || p + a >= g.kernel_height) continue;
      GRAFT_UNROLL
      for (int b = 0; b < kTapSide; ++b) {
        const int j = left + b * g.dilation_width;
        if (j < 0 || j >= g.width || q + b >= g.kernel_width) continue;
        const Vector<T, N> here = load<N>(from + static_cast<Index>(i * g.width + j) * x_pitch);
        GRAFT_UNROLL
        for (int n = 0; n < N; ++n) sums[a * kTapSide + b][n] += widen(here[n]) * widen(slope[n]);
      }
    }
  }
};

// Whether a thread may take 16 bytes of neighbouring channels of images and weights.
template <class T, class W>
bool vectors_fit(int multiplier, const Operand& x, const Operand& w, const Operand& y) {
  constexpr int n = kVector<T>;
  return multiplier == 1 && y.shape.channels() % n == 0 && aligned<T>(x.data, x.pitch, n) &&
         aligned<T>(y.data, y.pitch, n) && aligned<W>(w.data, w.shape.channels(), n < kVector<W> ? n : kVector<W>);
}

// What depthwise_conv2d_kernel is told beside its images.
template <class T, class W>
struct Correlation {
  const char* name;
  WindowSizes windows;
  int multiplier;
  Weights<W> weights;
  const Accumulator<T>* bias;
  Activation activation;
  bool accumulate;

  template <int Stride, int N>
  void run(Context& context, const Operand& x, const Operand& y) const {
    const int strips = (windows.out_width + kStrip - 1) / kStrip;
    const Index items = Index{windows.out_height} * strips * (windows.channels * multiplier / N);
    launch(context, name, grid_of_images(items, windows.batch, kStripThreads), depthwise_conv2d_kernel<Stride, N, T, W>,
           windows, multiplier, x.as<T>(), x.pitch, weights, bias, activation, y.as<T>(), y.pitch, accumulate);
  }
  void run(Context& context, const Operand& x, const Operand& y, bool vectors) const {
    constexpr int n = kVector<T>;
    const bool three = windows.kernel_width == 3 && windows.dilation_width == 1;
    if (!vectors)
      run<0, 1>(context, x, y);
    else if (three && windows.stride_width == 1)
      run<1, n>(context, x, y);
    else if (three && windows.stride_width == 2)
      run<2, n>(context, x, y);
    else
      run<0, n>(context, x, y);
  }
};

// The windows over dz whose results are dx, for a stride of 1: pixel i is covered by tap p of window i + pad - p d,
// which is i - ((K - 1) d - pad) + p' d with taps p' = K - 1 - p counted backwards.
WindowGeometry transposed(const WindowGeometry& g) {
  WindowGeometry t = g;
  t.height = g.out_height;
  t.width = g.out_width;
  t.out_height = g.height;
  t.out_width = g.width;
  t.pad_top = (g.kernel_height - 1) * g.dilation_height - g.pad_top;
  t.pad_left = (g.kernel_width - 1) * g.dilation_width - g.pad_left;
  return t;
}

}  // namespace

void depthwise_conv2d_forward(Context& context, const DepthwiseGeometry& g, const Operand& x, const Operand& w,
                              const Operand& bias, Activation activation, const Operand& y) {
  const int multiplier = static_cast<int>(g.multiplier);
  dispatch_weighted("depthwise_conv2d", x.dtype, w.dtype, [&]<class T, class W>(Type<T>, Type<W>) {
    const Correlation<T, W> forward{
        "depthwise_conv2d",        WindowSizes(g), multiplier, {w.as<W>(), g.out_channels()},
        bias.as<Accumulator<T>>(), activation,     false};
    forward.run(context, x, y, vectors_fit<T, W>(multiplier, x, w, y));
  });
}

void depthwise_conv2d_backward_input(Context& context, const DepthwiseGeometry& g, const Operand& dz, const Operand& w,
                                     Gradient dx) {
  const char* name = "depthwise_conv2d_backward_input";
  const int multiplier = static_cast<int>(g.multiplier);
  dispatch_weighted("depthwise_conv2d", dz.dtype, w.dtype, [&]<class T, class W>(Type<T>, Type<W>) {
    const bool vectors = vectors_fit<T, W>(multiplier, dz, w, dx.to);
    if (g.stride_height == 1 && g.stride_width == 1 && multiplier == 1) {
      const Index channels = g.out_channels(), last = g.kernel_height * g.kernel_width - 1;
      const Correlation<T, W> backward{name,
                                       WindowSizes(transposed(g)),
                                       1,
                                       {w.as<W>() + last * channels, -channels},
                                       nullptr,
                                       Activation::linear,
                                       dx.accumulate};
      return backward.run(context, dz, dx.to, vectors);
    }
    const WindowSizes windows(g);
    const auto run = [&]<int N>(std::integral_constant<int, N>) {
      launch(context, name, grid_of_images(g.height * g.width * (g.channels / N), g.batch),
             depthwise_conv2d_gather_kernel<N, T, W>, windows, multiplier, dz.as<T>(), dz.pitch, w.as<W>(),
             dx.to.as<T>(), dx.to.pitch, dx.accumulate);
    };
    with_vectors<T>(vectors, run);
  });
}

void depthwise_conv2d_backward_weight(Context& context, const DepthwiseGeometry& g, const Operand& x, const Operand& dz,
                                      Gradient dw) {
  const int multiplier = static_cast<int>(g.multiplier);
  dispatch_weighted("depthwise_conv2d", x.dtype, dw.to.dtype, [&]<class T, class W>(Type<T>, Type<W>) {
    const TapProducts<T> products{WindowSizes(g), multiplier, x.as<T>(), x.pitch, dz.as<T>(), dz.pitch};
    const auto run = [&]<int N>(std::integral_constant<int, N>) {
      channel_sums<kTapSide * kTapSide, N, Accumulator<T>>(
          context, "depthwise_conv2d_backward_weight", g.batch * g.out_height * g.out_width, g.out_channels(),
          static_cast<int>(g.kernel_height * g.kernel_width), tiles(g.kernel_height) * tiles(g.kernel_width), products,
          PutRows<W>(dw));
    };
    constexpr int n = kVector<T>;
    with_vectors<T>(
        multiplier == 1 && g.channels % n == 0 && aligned<T>(x.data, x.pitch, n) && aligned<T>(dz.data, dz.pitch, n),
        run);
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
