#pragma once

#include "device/divider.h"
#include "device/numeric.h"

// What the two factors of a product A [rows, depth] B [depth, columns] can be: a matrix in memory, an image seen
// through a sliding window, the weights of a convolution seen from its input. B is described by its transpose, so that
// every factor has rows and a depth, the side that is summed over.
//
// The address of an element is that of its row plus that of its depth, and whether the element is there can be told
// from two small numbers of each: a kernel computes the Places of its rows once, those of a depth once a tile, and adds
// them. `kDepthInner` says which side lies side by side in memory.
namespace graft::GRAFT_TARGET {

/// A row or a depth of a factor: where it begins in memory, and its share of the coordinates that are checked.
struct Place {
  Index offset;
  int i, j;
};

/// The coordinate of a row or depth that is not there. Two of them, or one and any coordinate of an image, sum to a
/// negative number.
constexpr int kOutside = -(1 << 30);

/// A matrix whose rows lie `pitch` apart, or its transpose, whose depths do.
template <class T, bool DepthInner>
struct Dense {
  using Element = T;
  static constexpr bool kDepthInner = DepthInner;

  const T* data = nullptr;
  Index pitch = 0;
  int rows = 0, depth = 0;

  __device__ Place row(int r) const { return {DepthInner ? r * pitch : Index{r}, r < rows ? 0 : kOutside, 0}; }
  __device__ Place at_depth(int k) const { return {DepthInner ? Index{k} : k * pitch, k < depth ? 0 : kOutside, 0}; }
  __device__ bool inside(const Place& row, const Place& depth_place) const { return row.i + depth_place.i == 0; }
};

/// How a grid of pixels and the taps of a window meet in an image: grid pixel (a, b) and tap (p, q) in image pixel
/// (a stride + base + p step, b stride + base + q step), rows and columns apart.
struct WindowGrid {
  int height = 0, width = 0;  ///< of the image
  int stride_height = 1, stride_width = 1;
  int base_height = 0, base_width = 0;
  int step_height = 1, step_width = 1;
  Divider pixels = {}, columns = {};  ///< of the grid: in one image, and in one of its rows
  Divider taps = {};                  ///< in one row of the window
};

/// An image [N, H, W, C] as the matrix that a convolution multiplies: a row for each grid pixel, a depth for each
/// channel of each tap (`im2col`, never stored). As its transpose with DepthInner false: a row for each channel of each
/// tap, a depth for each pixel.
template <class T, bool DepthInner>
struct Windows {
  using Element = T;
  static constexpr bool kDepthInner = DepthInner;

  const T* data = nullptr;
  Index pitch = 0;
  WindowGrid grid = {};
  Divider channels = {};
  int pixels = 0, taps = 0;  ///< grid pixels of all images; channels of all taps

  __device__ Place row(int r) const { return DepthInner ? pixel(r) : tap(r); }
  __device__ Place at_depth(int k) const { return DepthInner ? tap(k) : pixel(k); }
  __device__ bool inside(const Place& row, const Place& depth) const {
    return static_cast<unsigned>(row.i + depth.i) < static_cast<unsigned>(grid.height) &&
           static_cast<unsigned>(row.j + depth.j) < static_cast<unsigned>(grid.width);
  }

 private:
  __device__ Place pixel(int m) const {
    if (m >= pixels) return {0, kOutside, 0};
    const int n = grid.pixels.quotient(m), in_image = grid.pixels.remainder(m, n);
    const int a = grid.columns.quotient(in_image), b = grid.columns.remainder(in_image, a);
    const int i = a * grid.stride_height + grid.base_height, j = b * grid.stride_width + grid.base_width;
    return {((static_cast<Index>(n) * grid.height + i) * grid.width + j) * pitch, i, j};
  }
  __device__ Place tap(int k) const {
    if (k >= taps) return {0, kOutside, 0};
    const int t = channels.quotient(k), c = channels.remainder(k, t);
    const int p = grid.taps.quotient(t), q = grid.taps.remainder(t, p);
    const int i = p * grid.step_height, j = q * grid.step_width;
    return {(static_cast<Index>(i) * grid.width + j) * pitch + c, i, j};
  }
};

/// The weights [Co, Kh, Kw, Ci] as the input's gradient multiplies them: a row for each input channel, a depth for each
/// output channel of each tap (first + p step, first + q step).
template <class T>
struct TapWeights {
  using Element = T;
  static constexpr bool kDepthInner = false;

  const T* data = nullptr;
  Divider channels = {}, taps = {};  ///< output channels; taps in one row of those that take part
  int rows = 0, depth = 0;
  int out_channel_pitch = 0;            ///< Kh Kw Ci
  int first = 0;                        ///< the first tap that takes part, times Ci
  int step_height = 0, step_width = 0;  ///< from one tap to the next, in elements

  __device__ Place row(int r) const { return {r, r < rows ? 0 : kOutside, 0}; }
  __device__ Place at_depth(int k) const {
    if (k >= depth) return {0, kOutside, 0};
    const int t = channels.quotient(k), c = channels.remainder(k, t);
    const int p = taps.quotient(t), q = taps.remainder(t, p);
    return {static_cast<Index>(c) * out_channel_pitch + first + p * step_height + q * step_width, 0, 0};
  }
  __device__ bool inside(const Place& row, const Place& depth_place) const { return row.i + depth_place.i == 0; }
};

}  // namespace graft::GRAFT_TARGET
