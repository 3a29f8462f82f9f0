#include "cpu/avx512/grid.h"

#include <algorithm>
#include <numeric>

#include "cpu/window_taps.h"

namespace graft::kernels::avx512 {
namespace {

constexpr Index kFewChannels = 8;  // for which a tap is a row of the window

// The positions of one image row that lie side by side in a range.
struct Stretch {
  Index image, row, column, count;
};

template <class Body>
void for_each_stretch(const Grid& grid, Index begin, Index end, const Body& body) {
  const Index width = grid.columns.positions;
  for (Index at = begin; at < end;) {
    const Index image_row = at / width, column = at % width, count = std::min(width - column, end - at);
    body(Stretch{image_row / grid.rows.positions, image_row % grid.rows.positions, column, count});
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

Grid forward_grid(const ConvGeometry& g) {
  Grid grid{.images = g.batch,
            .rows = {.positions = g.out_height,
                     .taps = g.kernel_height,
                     .step = g.stride_height,
                     .first = -g.pad_top,
                     .tap_step = g.dilation_height,
                     .extent = g.height,
                     .to_extent = g.out_height},
            .columns = {.positions = g.out_width,
                        .taps = g.kernel_width,
                        .step = g.stride_width,
                        .first = -g.pad_left,
                        .tap_step = g.dilation_width,
                        .extent = g.width,
                        .to_extent = g.out_width}};
  if (g.in_group() <= kFewChannels && g.dilation_width == 1) std::swap(grid.run, grid.columns.taps);
  return grid;
}

std::vector<Phase> backward_input_phases(const ConvGeometry& g) {
  std::vector<Phase> phases;
  for (Index a = 0; a < g.stride_height; ++a) {
    for (Index b = 0; b < g.stride_width; ++b) {
      const AxisPhase rows =
          phase(a, g.stride_height, g.pad_top, g.dilation_height, g.kernel_height, g.height, g.out_height);
      const AxisPhase columns =
          phase(b, g.stride_width, g.pad_left, g.dilation_width, g.kernel_width, g.width, g.out_width);
      phases.push_back({.grid = {.images = g.batch, .rows = rows.axis, .columns = columns.axis},
                        .first_row_tap = rows.first_tap,
                        .first_column_tap = columns.first_tap,
                        .row_tap_stride = rows.tap_stride,
                        .column_tap_stride = columns.tap_stride});
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
  Index* result = results_.data();
  for_each_stretch(grid_, begin, end, [&](const Stretch& s) {
    const Index row = s.image * grid_.rows.to_extent + s.row * grid_.rows.to_step + grid_.rows.to_first;
    const Index first = row * grid_.columns.to_extent + s.column * grid_.columns.to_step + grid_.columns.to_first;
    for (Index i = 0; i < s.count; ++i) *result++ = first + i * grid_.columns.to_step;
  });
  const T** to = rows_.data();
  for (Index p = 0; p < grid_.rows.taps; ++p) {
    for (Index q = 0; q < grid_.columns.taps; ++q, to += count()) fill(p, q, to);
  }
}

template <class T>
void RowTable<T>::fill(Index row_tap, Index column_tap, const T** to) {
  const Axis &rows = grid_.rows, &columns = grid_.columns;
  const Index outside = grid_.run == 1 || pitch_ == channels_ ? columns.extent - grid_.run + 1 : 0;  // where a run fails
  for_each_stretch(grid_, begin_, end_, [&](const Stretch& s) {
    const Index row = s.row * rows.step + rows.first + row_tap * rows.tap_step;
    if (row < 0 || row >= rows.extent) {
      to = std::fill_n(to, s.count, zeros_.data());
      return;
    }
    const T* image_row = source_ + (s.image * rows.extent + row) * columns.extent * pitch_;
    const Index column = s.column * columns.step + columns.first + column_tap * columns.tap_step;
    const graft::cpu::Range inside = graft::cpu::taps_inside(column, s.count, columns.step, outside);
    for (Index i = 0; i < std::min(inside.begin, s.count); ++i) *to++ = edge(image_row, column + i * columns.step);
    const T* first = image_row + column * pitch_;
    for (Index i = inside.begin; i < inside.end; ++i) *to++ = first + i * columns.step * pitch_;
    for (Index i = inside.end; i < s.count; ++i) *to++ = edge(image_row, column + i * columns.step);
  });
}

template <class T>
const T* RowTable<T>::edge(const T* image_row, Index column) {
  if (column + grid_.run <= 0 || column >= grid_.columns.extent) return zeros_.data();
  if (edges_used_ == edges_.size()) edges_.emplace_back(zeros_.size());
  std::vector<T>& window = edges_[edges_used_++];
  for (Index q = 0; q < grid_.run; ++q) {
    T* to = window.data() + q * channels_;
    const bool inside = column + q >= 0 && column + q < grid_.columns.extent;
    if (inside)
      std::copy_n(image_row + (column + q) * pitch_, channels_, to);
    else
      std::fill_n(to, channels_, T{});
  }
  return window.data();
}

template class RowTable<float>;
template class RowTable<Half>;

}  // namespace graft::kernels::avx512
