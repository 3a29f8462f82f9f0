#pragma once

#include <algorithm>
#include <limits>
#include <optional>
#include <type_traits>

#include "device/operands.h"
#include "hopper/product.h"

// The factors of device/operands.h as tensors that TMA cuts boxes out of. This is host code that every product
// includes; the kernels are compiled apart.
namespace graft::GRAFT_TARGET::hopper {

/// How far apart the matrices of a batch lie, in elements, if one number for each factor tells: those of its products,
/// and those of the terms of one. A Batch answers `std::optional<BatchSteps> steps() const` on the host.
struct BatchSteps {
  Index a = 0, b = 0, c = 0;
  Index term_a = 0, term_b = 0;
};

template <class T>
MapDescription tiled_map(const T* data) {
  return {.data = data, .bfloat = std::is_same_v<T, bfloat16>};
}

/// Sets an axis that has `stride` elements from one to the next. One that has a single element takes any stride.
inline void set_axis(MapDescription& map, std::size_t axis, Index extent, Index stride) {
  map.extents[axis] = static_cast<std::uint64_t>(extent);
  map.strides[axis] = extent > 1 ? static_cast<std::uint64_t>(stride) * 2 : std::uint64_t{16};
}

/// The depth as a factor with windows has it, taps of channels, and as two matrices have it: their terms.
template <class T>
Depth depth_of(const Windows<T, true>& a, int, int) {
  const int channels = a.channels.divisor(), across = a.grid.taps.divisor();
  return {channels, across, a.taps / (channels * across)};
}
template <class T, bool DepthInner>
Depth depth_of(const Dense<T, DepthInner>&, int depth, int terms) {
  return {depth, terms, 1};
}

/// A matrix. Beside windows its depth is a depth of taps: a convolution's weights.
template <class T, bool DepthInner>
FactorDescription describe(const Dense<T, DepthInner>& m, const Depth& depth, bool taps_lie_in_depth, int products,
                           Index product_step, Index term_step) {
  FactorDescription f{.map = tiled_map(m.data), .lines = m.rows, .line_taps = {m.rows, 1, 1}};
  const bool each_tap = taps_lie_in_depth || term_step != 0;
  f.each_product = products > 1 && product_step != 0;
  set_axis(f.map, 0, DepthInner ? depth.channels : m.rows, 1);
  set_axis(f.map, 1, each_tap ? depth.taps() : 1, taps_lie_in_depth ? depth.channels : term_step);
  set_axis(f.map, 2, DepthInner ? m.rows : depth.channels, m.pitch);
  set_axis(f.map, 3, f.each_product ? products : 1, product_step);
  f.step_across = each_tap ? 1 : 0;
  f.step_down = each_tap ? depth.taps_across : 0;
  return f;
}

/// The weights [Co, Kh, Kw, Ci] seen from the input: lines are Ci, channels of the depth Co, and the taps that take
/// part lie `first` and so many steps on.
template <class T>
FactorDescription describe(const TapWeights<T>& w, const Depth& depth, bool, int, Index, Index) {
  FactorDescription f{.map = tiled_map(w.data), .lines = w.rows, .line_taps = {w.rows, 1, 1}};
  set_axis(f.map, 0, w.rows, 1);
  set_axis(f.map, 1, w.out_channel_pitch / w.rows, w.rows);
  set_axis(f.map, 2, depth.channels, w.out_channel_pitch);
  set_axis(f.map, 3, 1, 0);
  f.first_across = w.first / w.rows;
  f.step_across = w.step_width / w.rows;
  f.step_down = w.step_height / w.rows;
  return f;
}

/// An image through its windows. Steps to the left or up, those of an input's gradient, are turned round: the walk
/// begins at the last tap's pixel, and the first tap has the largest offset.
template <class T, bool DepthInner>
FactorDescription describe(const Windows<T, DepthInner>& x, const Depth& depth, bool, int, Index, Index) {
  const WindowGrid& g = x.grid;
  const int channels = x.channels.divisor(), across = g.taps.divisor(), down = x.taps / (channels * across);
  const int rows = g.pixels.divisor() / g.columns.divisor(), columns = g.columns.divisor();
  const int images = x.pixels / g.pixels.divisor();
  const bool whole = g.stride_height * g.stride_width == 1 && rows == g.height && columns == g.width;
  if (across * down == 1 && whole && g.base_height == 0 && g.base_width == 0) {  // the image itself, a matrix
    const Dense<T, DepthInner> matrix{x.data, x.pitch, DepthInner ? x.pixels : channels,
                                      DepthInner ? channels : x.pixels};
    return describe(matrix, depth, false, 1, 0, 0);
  }
  FactorDescription f{.lines = DepthInner ? x.pixels : x.taps, .pixels = g.pixels, .columns = g.columns};
  f.line_taps = DepthInner ? Depth{x.pixels, 1, 1} : Depth{channels, across, down};
  f.map = {.data = x.data, .bfloat = std::is_same_v<T, bfloat16>, .windows = true};
  set_axis(f.map, 0, channels, 1);
  set_axis(f.map, 1, g.width, x.pitch);
  set_axis(f.map, 2, g.height, g.width * x.pitch);
  set_axis(f.map, 3, images, static_cast<Index>(g.height) * g.width * x.pitch);
  const auto axis = [&f](std::size_t i, int extent, int base, int stride, int count, int taps, int step) {
    const int reach = (taps - 1) * step, first = step < 0 ? -reach : 0;
    f.map.lower[i] = base - first;
    f.map.upper[i] = f.map.lower[i] + (count - 1) * stride - (extent - 1);
    f.map.stride[i] = stride;
    f.map.farthest[i] = std::max(reach, first);
    return first;
  };
  f.first_across = axis(0, g.width, g.base_width, g.stride_width, columns, across, g.step_width);
  f.first_down = axis(1, g.height, g.base_height, g.stride_height, rows, down, g.step_height);
  f.step_across = g.step_width;
  f.step_down = g.step_height;
  return f;
}

template <class F>
inline constexpr bool kWindows = false;
template <class T, bool DepthInner>
inline constexpr bool kWindows<Windows<T, DepthInner>> = true;

/// Whether Hopper's tiles suit the shape: 128 rows, 64 columns at least, and steps of 64 channels, of one tap each.
/// Where more than half of one would be empty the small tiles of mma.sync are quicker.
inline bool suits(int rows, const Depth& columns, const Depth& depth) {
  return rows >= 64 && columns.channels >= 32 && depth.channels >= 32;
}

/// Launches a product of halves on Hopper's units, if they may be used and can: see `allowed`, `suits` and
/// `broken_rule`. Else false, and nothing was launched. Products other than the first need one step for each factor and
/// no windows; what lies side by side in a factor is one or a multiple of eight.
template <class P>
bool try_product(const Context& context, const char* name, const P& p) {
  using T = typename P::A::Element;
  using To = typename P::Epilogue::Element;
  constexpr bool kTaps = kWindows<typename P::A>;
  const auto steps = p.batch.steps();
  if (!steps || (p.products > 1 && (kTaps || kWindows<typename P::B>))) return false;
  if constexpr (GRAFT_HAS_HOPPER) {  // a build for another architecture has no such kernels
    if (p.rows == 0 || p.columns == 0 || p.depth == 0 || !allowed(context)) return false;
    const Depth depth = depth_of(p.a, p.depth, p.terms);
    const FactorDescription a = describe(p.a, depth, false, p.products, steps->a, steps->term_a),
                            b = describe(p.b, depth, kTaps, p.products, steps->b, steps->term_b);
    if (!suits(p.rows, b.line_taps, depth)) return false;
    return multiply<T, To>(context, name,
                           {.a = a,
                            .b = b,
                            .depth_inner_a = P::A::kDepthInner,
                            .depth_inner_b = P::B::kDepthInner,
                            .depth = depth,
                            .batch = {steps->c},
                            .epilogue = p.epilogue,
                            .rows = p.rows,
                            .columns = p.columns,
                            .products = p.products});
  }
  return false;
}

}  // namespace graft::GRAFT_TARGET::hopper
