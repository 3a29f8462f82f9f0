#pragma once

#include <limits>
#include <string>

#include "graft/core/error.h"
#include "graft/core/window.h"

#include "runtime/launch.h"

// How windows and pixels meet. A tap is a position p Kw + q of the window; pixels are counted i W + j within their
// image, windows likewise within theirs.
namespace graft::GRAFT_TARGET {

/// Of pixels, windows, taps or channels. Throws Error if they are more than 31 bits count.
inline int narrow_count(Index count) {
  if (count > std::numeric_limits<int>::max())
    throw Error("an image or window on a GPU has at most 2^31 - 1 elements, got " + std::to_string(count));
  return static_cast<int>(count);
}

/// A WindowGeometry in the 32-bit numbers that a GPU divides and multiplies fast.
struct WindowSizes {
  int batch, height, width, channels;
  int kernel_height, kernel_width, stride_height, stride_width, dilation_height, dilation_width;
  int pad_top, pad_left, out_height, out_width;

  /// Throws Error if an image, or the windows of all images, are more than 31 bits count.
  explicit WindowSizes(const WindowGeometry& g)
      : batch(narrow_count(g.batch)),
        height(narrow_count(g.height)),
        width(narrow_count(g.width)),
        channels(narrow_count(g.channels)),
        kernel_height(narrow_count(g.kernel_height)),
        kernel_width(narrow_count(g.kernel_width)),
        stride_height(narrow_count(g.stride_height)),
        stride_width(narrow_count(g.stride_width)),
        dilation_height(narrow_count(g.dilation_height)),
        dilation_width(narrow_count(g.dilation_width)),
        pad_top(narrow_count(g.pad_top)),
        pad_left(narrow_count(g.pad_left)),
        out_height(narrow_count(g.out_height)),
        out_width(narrow_count(g.out_width)) {
    narrow_count(g.height * g.width * g.channels);
    narrow_count(g.batch * g.out_height * g.out_width);
  }

  __device__ Index pixel_offset(int image, Index pitch) const {
    return static_cast<Index>(image) * height * width * pitch;
  }
  __device__ Index window_offset(int image, Index pitch) const {
    return static_cast<Index>(image) * out_height * out_width * pitch;
  }
};

/// Numbers begin .. end - 1.
struct Range {
  int begin, end;

  __device__ int size() const { return end - begin; }
};

/// Which of `kernel` taps, starting at `first` and `dilation` apart, lie in 0 .. extent-1.
inline __device__ Range taps_inside(int first, int kernel, int dilation, int extent) {
  const int begin = first >= 0 ? 0 : (-first + dilation - 1) / dilation;
  const int last = extent > first ? (extent - first + dilation - 1) / dilation : 0;
  const int end = last < kernel ? last : kernel;
  return {begin, end > begin ? end : begin};
}

inline __device__ Range rows_inside(const WindowSizes& g, int row) {
  return taps_inside(row * g.stride_height - g.pad_top, g.kernel_height, g.dilation_height, g.height);
}
inline __device__ Range columns_inside(const WindowSizes& g, int column) {
  return taps_inside(column * g.stride_width - g.pad_left, g.kernel_width, g.dilation_width, g.width);
}

/// Calls body(tap, pixel) for each tap of the window at (row, column) that lies inside the image.
template <class Body>
__device__ void for_each_pixel_under(const WindowSizes& g, int row, int column, const Body& body) {
  const int top = row * g.stride_height - g.pad_top, left = column * g.stride_width - g.pad_left;
  const Range rows = rows_inside(g, row), columns = columns_inside(g, column);
  for (int p = rows.begin; p < rows.end; ++p) {
    for (int q = columns.begin; q < columns.end; ++q)
      body(p * g.kernel_width + q, (top + p * g.dilation_height) * g.width + left + q * g.dilation_width);
  }
}

/// Which of `count` windows may have a tap at `at`, counted from where the first window begins: those that begin at
/// most `reach` before it.
inline __device__ Range windows_over(int at, int reach, int stride, int count) {
  const int first = at > reach ? (at - reach + stride - 1) / stride : 0;
  const int last = at / stride + 1;
  return {first, last < count ? last : count};
}

/// Calls body(tap, row, column) for each window that covers pixel (i, j), and the tap it does so with.
template <class Body>
__device__ void for_each_window_over(const WindowSizes& g, int i, int j, const Body& body) {
  const int down = i + g.pad_top, across = j + g.pad_left;
  const Range rows = windows_over(down, (g.kernel_height - 1) * g.dilation_height, g.stride_height, g.out_height);
  const Range columns = windows_over(across, (g.kernel_width - 1) * g.dilation_width, g.stride_width, g.out_width);
  for (int row = rows.begin; row < rows.end; ++row) {
    const int below = down - row * g.stride_height;
    const int p = g.dilation_height == 1 ? below : below / g.dilation_height;
    if (p * g.dilation_height != below) continue;
    for (int column = columns.begin; column < columns.end; ++column) {
      const int beside = across - column * g.stride_width;
      const int q = g.dilation_width == 1 ? beside : beside / g.dilation_width;
      if (q * g.dilation_width == beside) body(p * g.kernel_width + q, row, column);
    }
  }
}

/// A grid over `items` of each of `images`: its first axis strides over the items, its second over the images, so that
/// a position within an image needs no 64-bit division.
inline LaunchShape grid_of_images(Index items, Index images, unsigned threads = 256) {
  constexpr Index kMostRows = 65535;  // of blocks, in a grid's second axis
  LaunchShape shape = grid_for(items, threads);
  shape.grid.y = static_cast<unsigned>(images < kMostRows ? images : kMostRows);
  return shape;
}

/// Calls body(image, item) for each of this thread's in such a grid.
template <class Body>
__device__ void for_each_of_images(int items, int images, const Body& body) {
  const int stride = static_cast<int>(gridDim.x * blockDim.x);
  for (int image = static_cast<int>(blockIdx.y); image < images; image += static_cast<int>(gridDim.y)) {
    for (int item = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); item < items; item += stride)
      body(image, item);
  }
}

}  // namespace graft::GRAFT_TARGET
