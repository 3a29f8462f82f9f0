#pragma once

#include <optional>

#include "device/gemm_choice.h"
#include "device/window.h"
#include "kernels/conv2d.h"

// What the kernels of convolutions share, and the forward product, whose epilogue differs.
namespace graft::kernels::GRAFT_TARGET {

using namespace graft::GRAFT_TARGET;

struct Groups {
  Index a = 0, b = 0, c = 0;  // from one group to the next

  __device__ Bases operator()(int group, int) const { return {group * a, group * b, group * c}; }
  std::optional<hopper::BatchSteps> steps() const { return hopper::BatchSteps{.a = a, .b = b, .c = c}; }
};

/// The windows that output pixels see in x. Throws Error if there are more of them than a kernel counts.
template <class T, bool DepthInner>
Windows<T, DepthInner> windows_of_input(const ConvGeometry& g, const Operand& x) {
  const Index columns = std::max<Index>(g.out_width, 1), rows = std::max<Index>(g.out_height, 1);  // to divide by
  return {.data = x.as<T>(),
          .pitch = x.pitch,
          .grid = WindowGrid{.height = narrow_count(g.height),
                             .width = narrow_count(g.width),
                             .stride_height = narrow_count(g.stride_height),
                             .stride_width = narrow_count(g.stride_width),
                             .base_height = narrow_count(-g.pad_top),
                             .base_width = narrow_count(-g.pad_left),
                             .step_height = narrow_count(g.dilation_height),
                             .step_width = narrow_count(g.dilation_width),
                             .pixels = Divider(narrow_count(rows * columns)),
                             .columns = Divider(columns),
                             .taps = Divider(g.kernel_width)},
          .channels = Divider(g.in_group()),
          .pixels = narrow_count(g.batch * g.out_height * g.out_width),
          .taps = narrow_count(g.kernel_height * g.kernel_width * g.in_group())};
}

/// Whether all of an operand can be read as vectors.
template <class T>
bool vectors(const Operand& y) {
  return aligned<T>(y.data, y.pitch, kVector<T>);
}

template <int N, class T>
__global__ void pad_channels_kernel(int pixels, int channels, Divider vectors, const T* x, Index pitch, T* y) {
  const Index count = static_cast<Index>(pixels) * vectors.divisor();
  for (Index i = first_index(); i < count; i += index_stride()) {
    const int pixel = vectors.quotient(static_cast<int>(i)), first = vectors.remainder(static_cast<int>(i), pixel) * N;
    Vector<T, N> values{};
    for (int k = 0; k < N && first + k < channels; ++k) values[k] = x[pixel * pitch + first + k];
    store(y + i * N, values);
  }
}

/// A convolution of images whose channels, those of a photo say, are no multiple of a vector: it is computed with zeros
/// for the missing ones, for reading single elements would cost more than copying x and multiplying by the zeros does.
template <class T>
class WholeVectors {
 public:
  /// Takes part only where it helps: `padded()` says so.
  explicit WholeVectors(const ConvGeometry& g) : geometry_(g) {
    constexpr Index n = kVector<T>, kMostVectors = Index{1} << 30;
    if (std::is_same_v<T, double> || g.groups != 1 || g.channels % n == 0 || g.out_channels % n != 0) return;
    const Index channels = (g.channels + n - 1) / n * n;
    if (channels > 3 * g.channels) return;  // too many zeros for what is saved
    if (std::max(g.batch * g.height * g.width, g.out_channels * g.kernel_height * g.kernel_width) * channels / n >
        kMostVectors)
      return;
    geometry_.channels = channels;
    padded_ = true;
  }
  bool padded() const { return padded_; }
  const ConvGeometry& geometry() const { return geometry_; }

  /// x or w, of type T, with the zeros.
  Tensor operator()(const Context& context, const char* name, const Operand& x) const {
    constexpr int n = kVector<T>;
    const Index channels = geometry_.channels;
    Tensor y = Tensor::empty(x.shape.with(-1, channels), x.dtype, context.device);
    launch(context, name, grid_for(x.shape.rows() * channels / n), pad_channels_kernel<n, T>,
           static_cast<int>(x.shape.rows()), static_cast<int>(x.shape.channels()), Divider(channels / n), x.as<T>(),
           x.pitch, static_cast<T*>(y.raw()));
    return y;
  }

 private:
  ConvGeometry geometry_;
  bool padded_ = false;
};

template <class T>
Epilogue<T> forward_epilogue(const ConvGeometry& g, const Operand& bias, const Operand& residual, Activation activation,
                             const Operand& y) {
  return {.y = y.as<T>(),
          .pitch = y.pitch,
          .grid = {},
          .bias = bias.as<Accumulator<T>>(),
          .residual = residual.as<T>(),
          .residual_pitch = residual.pitch,
          .activation = activation,
          .vectors = vectors<T>(y) && (!residual || vectors<T>(residual)) && g.out_group() % kVector<T> == 0};
}

// As forward_product, of operands of one type.
template <class T, class Epilogue>
int product_of_windows(Context& context, const char* name, const ConvGeometry& g, const Operand& x, const Operand& w,
                       const Epilogue& epilogue) {
  const auto windows = windows_of_input<T, true>(g, x);
  const Index depth = windows.taps;
  return gemm(context, name,
              Product<Windows<T, true>, Dense<T, true>, Groups, Epilogue>{
                  .a = windows,
                  .b = {w.as<T>(), depth, static_cast<int>(g.out_group()), static_cast<int>(depth)},
                  .batch = {g.in_group(), g.out_group() * depth, g.out_group()},
                  .epilogue = epilogue,
                  .rows = windows.pixels,
                  .columns = static_cast<int>(g.out_group()),
                  .depth = static_cast<int>(depth),
                  .products = static_cast<int>(g.groups)},
              vectors<T>(x) && vectors<T>(w) && g.in_group() % kVector<T> == 0);
}

/// Launches the product of x's windows with w. Returns what `gemm` does.
template <class T, class Epilogue>
int forward_product(Context& context, const char* name, const ConvGeometry& g, const Operand& x, const Operand& w,
                    const Epilogue& epilogue) {
  const RoundedWeights<T> weights(context, w);
  const WholeVectors<T> whole(g);
  if (!whole.padded()) return product_of_windows<T>(context, name, g, x, *weights, epilogue);
  return product_of_windows<T>(context, name, whole.geometry(), whole(context, name, x), whole(context, name, *weights),
                               epilogue);
}

}  // namespace graft::kernels::GRAFT_TARGET
