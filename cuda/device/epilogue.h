#pragma once

#include "device/divider.h"
#include "device/moments.h"
#include "device/numeric.h"
#include "device/unroll.h"
#include "kernels/activation_math.h"

namespace graft::GRAFT_TARGET {

/// Which pixel of an image a row of a product is: the same, or one of a grid of pixels `stride` apart.
struct PixelGrid {
  bool scattered = false;
  int height = 0, width = 0;  ///< of the image
  int stride_height = 1, stride_width = 1;
  int first_row = 0, first_column = 0;
  Divider pixels = {}, columns = {};  ///< of the grid: in one image, and in one of its rows

  __device__ Index pixel(int row) const {
    if (!scattered) return row;
    const int n = pixels.quotient(row), in_image = pixels.remainder(row, n);
    const int a = columns.quotient(in_image), b = columns.remainder(in_image, a);
    return (static_cast<Index>(n) * height + a * stride_height + first_row) * width + b * stride_width + first_column;
  }
};

/// What becomes of a product's sums: y (+)= activation(sum + bias + residual). Absent operands are null.
template <class T>
struct Epilogue {
  using Element = T;
  using Sum = Accumulator<T>;

  T* y = nullptr;
  Index pitch = 0;
  PixelGrid grid = {};
  const Sum* bias = nullptr;  ///< of a column
  const T* residual = nullptr;
  Index residual_pitch = 0;
  Activation activation = Activation::linear;
  bool accumulate = false;
  bool vectors = false;  ///< rows of y and residual are aligned, and columns a multiple, so that 16 bytes move at once

  static constexpr int kWidth = kVector<T>;
  using Values = Vector<Sum, kWidth>;

  static constexpr bool kKeepsMoments = false;  // EpilogueWithMoments does

  /// `values` are columns column .. column + count - 1 of a row of the product that begins at y + base. Returns what
  /// was written.
  __device__ Vector<T, kWidth> put(Index base, int row, int column, int count, Values values) const {
    const Index pixel = grid.pixel(row), channel = base + column;
    if (bias != nullptr) {
      GRAFT_UNROLL
      for (int i = 0; i < kWidth; ++i) {  // not to count, so that the values stay in registers
        if (i < count) values[i] += bias[channel + i];
      }
    }
    if (residual != nullptr) add(residual + pixel * residual_pitch + channel, count, values);
    if (activation == Activation::relu) {  // the usual one, without the code of the others
      GRAFT_UNROLL
      for (int i = 0; i < kWidth; ++i) values[i] = kernels::activate(Activation::relu, values[i]);
    } else if (activation != Activation::linear) {
      GRAFT_UNROLL
      for (int i = 0; i < kWidth; ++i) values[i] = kernels::activate(activation, values[i]);
    }
    T* to = y + pixel * pitch + channel;
    if (accumulate) add(to, count, values);
    Vector<T, kWidth> rounded;
    GRAFT_UNROLL
    for (int i = 0; i < kWidth; ++i) rounded[i] = narrow<T>(values[i]);
    if (vectors) {
      store(to, rounded);
    } else {
      GRAFT_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        if (i < count) to[i] = rounded[i];
      }
    }
    return rounded;
  }

 private:
  __device__ void add(const T* from, int count, Values& values) const {
    if (vectors) {
      const Vector<T, kWidth> more = load<kWidth>(from);
      GRAFT_UNROLL
      for (int i = 0; i < kWidth; ++i) values[i] += widen(more[i]);
    } else {
      GRAFT_UNROLL
      for (int i = 0; i < kWidth; ++i) {
        if (i < count) values[i] += widen(from[i]);
      }
    }
  }
};

/// The same, and for each tile of rows the moments of every channel as it was written: to moments[tile, 0, c] its mean,
/// to moments[tile, 1, c] the sum of squared distances from it. A product whose depth is split leaves none.
template <class T>
struct EpilogueWithMoments : Epilogue<T> {
  using Sum = Accumulator<T>;
  using Epilogue<T>::kWidth;
  static constexpr bool kKeepsMoments = true;

  Sum* moments = nullptr;
  int channels = 0;

  /// Of a tile of `rows` rows, which the threads of a block have put, `Across` of them side by side: `of_thread` are
  /// those of this thread's channels channel .. channel + kWidth - 1, of which only the first `count` may be there.
  template <int Threads, int Across>
  __device__ void put_moments(int tile, int rows, Index channel, int count, Moments<kWidth, Sum>& of_thread) const {
    merge_down<Threads>(Across, static_cast<Sum>(rows), of_thread);
    if (static_cast<int>(threadIdx.x) >= Across) return;
    Sum* const to = moments + (Index{2} * tile * channels + channel);
    GRAFT_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      if (i >= count) continue;
      to[i] = of_thread.mean[i];
      to[channels + i] = of_thread.squares[i];
    }
  }
};

}  // namespace graft::GRAFT_TARGET
