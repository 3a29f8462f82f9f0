#pragma once

#include "graft/core/shape.h"

namespace graft {

/// A height and a width; one number stands for both.
struct Extent {
  Index height = 1;
  Index width = 1;

  constexpr Extent() = default;
  constexpr Extent(Index both) : height(both), width(both) {}  // NOLINT: 3 reads as 3x3
  constexpr Extent(Index h, Index w) : height(h), width(w) {}
  friend bool operator==(const Extent&, const Extent&) = default;
};

/// Rows and columns added around an image.
struct Padding {
  Index top = 0;
  Index bottom = 0;
  Index left = 0;
  Index right = 0;
  bool is_same = false;  ///< as TensorFlow and Keras do it: output = ceil(input / stride), the odd pixel at the bottom
                         ///< and right; the numbers are ignored

  friend bool operator==(const Padding&, const Padding&) = default;
};

inline constexpr Padding kValid{};
inline constexpr Padding kSame{.is_same = true};
/// The same number of pixels on each side.
constexpr Padding pad(Index all) { return {all, all, all, all}; }

/// A window that slides over an image.
struct Window {
  Extent kernel = 1;
  Extent stride = 1;
  Extent dilation = 1;
  Padding padding = kValid;

  friend bool operator==(const Window&, const Window&) = default;
  /// `3x3, stride 2x2, padding same`.
  std::string to_string() const;
};

/// A Window laid over an image of known size: plain numbers that a kernel reads.
struct WindowGeometry {
  Index batch = 0, height = 0, width = 0, channels = 0;  ///< of the input
  Index kernel_height = 1, kernel_width = 1;
  Index stride_height = 1, stride_width = 1;
  Index dilation_height = 1, dilation_width = 1;
  Index pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  Index out_height = 0, out_width = 0;

  friend bool operator==(const WindowGeometry&, const WindowGeometry&) = default;
};

/// Lays a window over an image `[N, H, W, C]`. Output height is floor((H + top + bottom - dilation (kernel - 1) - 1) /
/// stride) + 1.
///
/// `op` is named in the Error thrown if the image is not 4-D, a number is out of range, or the window does not fit into
/// the padded image.
WindowGeometry lay(std::string_view op, const Window& window, const Shape& image);

}  // namespace graft
