#include "cpu/vectorized/grid.h"

#include <algorithm>
#include <numeric>

namespace graft::kernels::vectorized {
namespace {

constexpr Index kFewChannels = 8;  // for which a tap is a row of the window

// The positions of one image and outer position that lie side by side in a range.
struct Stretch {
  Index image, outer, inner, count;
};

template <class Body>
void for_each_stretch(const Grid& grid, Index begin, Index end, const Body& body) {
  const Index length = grid.inner.positions;
  for (Index at = begin; at < end;) {
    const Index line = at / length, inner = at % length, count = std::min(length - inner, end - at);
    if (grid.images_inside)
      body(Stretch{line % grid.images, line / grid.images, inner, count});
    else
      body(Stretch{line / grid.outer.positions, line % grid.outer.positions, inner, count});
    at += count;
  }
}

// One phase of an axis: input pixels a, a + stride, ... are seen by the taps p with a + pad - p dilation divisible by
// the stride: the first such tap and every (stride / gcd(stride, dilation))-th after it.
struct AxisPhase {
  Axis axis;
  Index first_tap, tap_stride;
};
AxisPhase phase(Index a, Index stride, Index pad, Index dilation, Index kernel, Index input, Index output) {
  const Index tap_stride = stride / std::gcd(stride, dilation);
  Index first = 0;
  while (first < std::min(tap_stride, kernel) && (a + pad - first * dilation) % stride != 0) ++first;
  const bool seen = first < std::min(tap_stride, kernel);
  return {.axis = {.positions = input > a ? (input - a + stride - 1) / stride : 0,
                   .taps = seen ? (kernel - first + tap_stride - 1) / tap_stride : 0,
                   .step = 1,
                   .first = seen ? (a + pad - first * dilation) / stride : 0,
                   .tap_step = -(tap_stride * dilation / stride),
                   .extent = output,
                   .to_step = stride,
                   .to_first = a,
                   .to_extent = input},
          .first_tap = first,
          .tap_stride = tap_stride};
}

}  // namespace

graft::cpu::Range Axis::inside(Index i) const {
  const Index at = i * step + first;
  const graft::cpu::Range range =
      tap_step > 0 ? graft::cpu::taps_inside(at, taps, tap_step, extent)
                   : graft::cpu::taps_inside(extent - 1 - at, taps, -tap_step, extent);  // from the other end
  return {std::min(range.begin, taps), std::min(range.end, taps)};  // no tap at all may lie beyond the last
}

void Grid::arrange() {
  const graft::cpu::Range first = outer.inside(0), last = outer.inside(outer.positions - 1);
  images_inside = last.end - last.begin < outer.taps || first.end - first.begin < outer.taps;
}

graft::cpu::Range Grid::terms_of(Index begin, Index end) const {
  if (!images_inside) return {0, terms()};
  const Index length = images * inner.positions;
  const graft::cpu::Range first = outer.inside(begin / length), last = outer.inside((end - 1) / length);
  const Index from = std::min(first.begin, last.begin);
  return {from * inner.taps, std::max(from, std::max(first.end, last.end)) * inner.taps};
}

Grid forward_grid(const ConvGeometry& g) {
  Grid grid{.images = g.batch,
            .outer = {.positions = g.out_height,
                      .taps = g.kernel_height,
                      .step = g.stride_height,
                      .first = -g.pad_top,
                      .tap_step = g.dilation_height,
                      .extent = g.height,
                      .to_extent = g.out_height,
                      .apart = g.width,
                      .to_apart = g.out_width},
            .inner = {.positions = g.out_width,
                      .taps = g.kernel_width,
                      .step = g.stride_width,
                      .first = -g.pad_left,
                      .tap_step = g.dilation_width,
                      .extent = g.width,
                      .to_extent = g.out_width}};
  if (g.in_group() <= kFewChannels && g.dilation_width == 1)
    std::swap(grid.run, grid.inner.taps);
  else if (g.kernel_height == 1 && g.kernel_width > 1)
    std::swap(grid.outer, grid.inner);
  grid.arrange();
  return grid;
}

std::vector<Phase> backward_input_phases(const ConvGeometry& g) {
  std::vector<Phase> phases;
  for (Index a = 0; a < g.stride_height; ++a) {
    for (Index b = 0; b < g.stride_width; ++b) {
      AxisPhase rows = phase(a, g.stride_height, g.pad_top, g.dilation_height, g.kernel_height, g.height, g.out_height);
      AxisPhase columns = phase(b, g.stride_width, g.pad_left, g.dilation_width, g.kernel_width, g.width, g.out_width);
      rows.axis.apart = g.out_width;
      rows.axis.to_apart = g.width;
      Phase result{.grid = {.images = g.batch, .outer = rows.axis, .inner = columns.axis}, .taps = {}};
      for (Index p = 0; p < rows.axis.taps; ++p) {
        for (Index q = 0; q < columns.axis.taps; ++q) {
          result.taps.push_back((rows.first_tap + p * rows.tap_stride) * g.kernel_width + columns.first_tap +
                                q * columns.tap_stride);
        }
      }
      if (g.kernel_height == 1 && g.kernel_width > 1)
        std::swap(result.grid.outer, result.grid.inner);  // which leaves the order of its terms
      result.grid.arrange();
      phases.push_back(std::move(result));
    }
  }
  return phases;
}

template <class T>
void RowTable<T>::move_to(Index begin, Index end) {
  begin_ = begin;
  end_ = end;
  edges_used_ = 0;
  rows_.resize(static_cast<std::size_t>(grid_.terms() * count() + kRowsAhead));
  results_.resize(static_cast<std::size_t>(count()));
  const Axis &outer = grid_.outer, &inner = grid_.inner;
  Index* result = results_.data();
  for_each_stretch(grid_, begin, end, [&](const Stretch& s) {
    const Index first = s.image * outer.to_extent * inner.to_extent +
                        (s.outer * outer.to_step + outer.to_first) * outer.to_apart +
                        (s.inner * inner.to_step + inner.to_first) * inner.to_apart;
    for (Index i = 0; i < s.count; ++i) *result++ = first + i * inner.to_step * inner.to_apart;
  });
  const T** to = rows_.data();
  for (Index p = 0; p < outer.taps; ++p) {
    for (Index q = 0; q < inner.taps; ++q, to += count()) fill(p, q, to);
  }
}

template <class T>
void RowTable<T>::fill(Index outer_tap, Index inner_tap, const T** to) {
  const Axis &outer = grid_.outer, &inner = grid_.inner;
  const Index end = grid_.run == 1 || pitch_ == channels_ ? inner.extent - grid_.run + 1 : 0;  // of where a run begins
  for_each_stretch(grid_, begin_, end_, [&](const Stretch& s) {
    const Index line = s.outer * outer.step + outer.first + outer_tap * outer.tap_step;
    if (line < 0 || line >= outer.extent) {
      to = std::fill_n(to, s.count, zeros_.data());
      return;
    }
    const T* start = source_ + (s.image * outer.extent * inner.extent + line * outer.apart) * pitch_;
    const Index pixel = s.inner * inner.step + inner.first + inner_tap * inner.tap_step;
    const graft::cpu::Range inside = graft::cpu::taps_inside(pixel, s.count, inner.step, end);
    for (Index i = 0; i < std::min(inside.begin, s.count); ++i) *to++ = edge(start, pixel + i * inner.step);
    const T* first = start + pixel * inner.apart * pitch_;
    for (Index i = inside.begin; i < inside.end; ++i) *to++ = first + i * inner.step * inner.apart * pitch_;
    for (Index i = inside.end; i < s.count; ++i) *to++ = edge(start, pixel + i * inner.step);
  });
}

template <class T>
const T* RowTable<T>::edge(const T* line, Index pixel) {
  if (pixel + grid_.run <= 0 || pixel >= grid_.inner.extent) return zeros_.data();
  if (edges_used_ == edges_.size()) edges_.emplace_back(zeros_.size());
  std::vector<T>& window = edges_[edges_used_++];
  for (Index q = 0; q < grid_.run; ++q) {
    T* to = window.data() + q * channels_;
    const bool inside = pixel + q >= 0 && pixel + q < grid_.inner.extent;
    if (inside)
      std::copy_n(line + (pixel + q) * pitch_, channels_, to);
    else
      std::fill_n(to, channels_, T{});
  }
  return window.data();
}

template class RowTable<float>;
template class RowTable<Half>;

}  // namespace graft::kernels::vectorized
