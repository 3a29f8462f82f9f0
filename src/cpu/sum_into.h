#pragma once

#include <vector>

#include "cpu/vector_ops.h"
#include "cpu/walk.h"

namespace graft::cpu {

/// Writes or adds sums to elements first .. first + count of a gradient in row-major order, wherever its rows lie.
template <class T, class Sum>
void put_range(const Operand& y, Index first, const Sum* sums, Index count, bool accumulate) {
  if (y.contiguous()) return put(y.as<T>() + first, sums, count, accumulate);
  const Index channels = y.shape.channels();
  for (Index at = first; at < first + count;) {
    const Index channel = at % channels;
    const Index run = std::min(channels - channel, first + count - at);
    put(y.as<T>() + at / channels * y.pitch + channel, sums + (at - first), run, accumulate);
    at += run;
  }
}

/// y [C] (+)= the sum over all rows of a shape [..., C] of what add_row(row, sums, channels) adds to its sums. y has
/// type T or the accumulator's. Rows are summed in blocks whose number depends on the shape alone.
template <class T, class AddRow>
void sum_over_rows(const Shape& shape, Gradient y, const AddRow& add_row) {
  using Sum = Accumulator<T>;
  constexpr Index kRowsABlock = 1024;  // also bounds the rounding error: sums of sums
  const Index channels = shape.channels(), rows = shape.rows();
  const Index blocks = (rows + kRowsABlock - 1) / kRowsABlock;
  std::vector<Sum> partial(static_cast<std::size_t>(std::max<Index>(blocks, 1) * channels));
  parallel_ranges(rows, kRowsABlock, [&](Index begin, Index end) {
    Sum* sums = partial.data() + begin / kRowsABlock * channels;
    for (Index row = begin; row < end; ++row) add_row(row, sums, channels);
  });
  for (Index block = 1; block < blocks; ++block)
    add_scaled(partial.data(), Sum(1), partial.data() + block * channels, channels);
  if (y.to.dtype == dtype_of<T>) return put(y.to.as<T>(), partial.data(), channels, y.accumulate);
  put(y.to.as<Sum>(), partial.data(), channels, y.accumulate);
}

/// The destination of sum_into for a walk's first operand: y densely packed and repeated to `shape`.
inline Strided repeated(const Operand& y, const Shape& shape) {
  return Strided(Operand(y.data, y.shape, y.dtype)).broadcast(shape);
}

/// y (+)= the sum of what add_run adds up along the walk, whose first operand is `repeated(y, ...)`. add_run(sums,
/// offsets, count) adds `count` terms to sums[0], sums[stride], ... with the first operand's inner stride, 0 or 1. The
/// order of the additions depends on the shapes alone.
template <class T, std::size_t K, class AddRun>
void sum_into(const Walk<K>& walk, Gradient y, const AddRun& add_run) {
  using Sum = Accumulator<T>;
  constexpr Index kGrain = 1 << 14;  // elements a task
  constexpr Index kMostBlocks = 16;  // partial sums that may exist at once, each as large as y
  const Index outer = walk.outer_extent(), each = outer == 0 ? 0 : walk.elements() / outer;
  const Index step = walk.outer_strides()[0];
  const Index grain = std::max<Index>(1, kGrain / std::max<Index>(1, each));
  if (step != 0) {  // every range of the outermost axis has destinations of its own
    parallel_ranges(outer, grain, [&](Index begin, Index end) {
      std::vector<Sum> sums(static_cast<std::size_t>((end - begin) * step));
      walk.runs(begin * each, end * each,
                [&](const auto& at, Index count) { add_run(sums.data() + (at[0] - begin * step), at, count); });
      put_range<T>(y.to, begin * step, sums.data(), (end - begin) * step, y.accumulate);
    });
    return;
  }
  const Index size = y.to.elements();
  const Index range = std::max(grain, (outer + kMostBlocks - 1) / kMostBlocks);
  const Index blocks = (outer + range - 1) / range;
  std::vector<Sum> partial(static_cast<std::size_t>(std::max<Index>(1, blocks) * size));
  parallel_ranges(outer, range, [&](Index begin, Index end) {
    Sum* sums = partial.data() + begin / range * size;
    walk.runs(begin * each, end * each, [&](const auto& at, Index count) { add_run(sums + at[0], at, count); });
  });
  for (Index block = 1; block < blocks; ++block)
    add_scaled(partial.data(), Sum(1), partial.data() + block * size, size);
  put_range<T>(y.to, 0, partial.data(), size, y.accumulate);
}

}  // namespace graft::cpu
