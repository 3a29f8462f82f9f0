#pragma once

#include <algorithm>

#include "graft/core/window.h"

// How windows and pixels meet. A tap is a position p Kw + q of the window; pixels are counted i W + j within their
// image, windows likewise within theirs.
namespace graft::cpu {

/// Numbers begin .. end - 1.
struct Range {
  Index begin, end;
};

/// Which of `kernel` taps, starting at `first` and `dilation` apart, lie in 0 .. extent-1.
inline Range taps_inside(Index first, Index kernel, Index dilation, Index extent) {
  const Index begin = first >= 0 ? 0 : (-first + dilation - 1) / dilation;
  const Index end = extent > first ? std::min(kernel, (extent - first + dilation - 1) / dilation) : 0;
  return {begin, std::max(begin, end)};
}

inline Range rows_inside(const WindowGeometry& g, Index row) {
  return taps_inside(row * g.stride_height - g.pad_top, g.kernel_height, g.dilation_height, g.height);
}
inline Range columns_inside(const WindowGeometry& g, Index column) {
  return taps_inside(column * g.stride_width - g.pad_left, g.kernel_width, g.dilation_width, g.width);
}

/// Calls body(tap, pixel) for each tap of the window at (row, column) that lies inside the image.
template <class Body>
void for_each_pixel_under(const WindowGeometry& g, Index row, Index column, const Body& body) {
  const Index top = row * g.stride_height - g.pad_top, left = column * g.stride_width - g.pad_left;
  const Range rows = rows_inside(g, row), columns = columns_inside(g, column);
  for (Index p = rows.begin; p < rows.end; ++p) {
    for (Index q = columns.begin; q < columns.end; ++q) {
      body(p * g.kernel_width + q, (top + p * g.dilation_height) * g.width + left + q * g.dilation_width);
    }
  }
}

/// Calls body(tap, row, column) for each window that covers pixel (i, j), and the tap it does so with.
template <class Body>
void for_each_window_over(const WindowGeometry& g, Index i, Index j, const Body& body) {
  for (Index p = 0; p < g.kernel_height; ++p) {
    const Index above = i + g.pad_top - p * g.dilation_height;
    if (above < 0 || above % g.stride_height != 0 || above / g.stride_height >= g.out_height) continue;
    for (Index q = 0; q < g.kernel_width; ++q) {
      const Index before = j + g.pad_left - q * g.dilation_width;
      if (before < 0 || before % g.stride_width != 0 || before / g.stride_width >= g.out_width) continue;
      body(p * g.kernel_width + q, above / g.stride_height, before / g.stride_width);
    }
  }
}

}  // namespace graft::cpu
