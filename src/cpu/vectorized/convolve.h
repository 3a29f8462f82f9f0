#pragma once

#include "core/parallel.h"
#include "cpu/vectorized/machine.h"
#include "cpu/vectorized/share.h"
#include "cpu/vectorized/weights.h"

// A convolution, or the gradient of its input, as a product of matrices whose left one is never made: rows of the image
// are read through a table of where they begin, one row for each tap of the window. Nothing is summed by two threads,
// and each number in the order of its terms, so that no result depends on how the work is shared out.
namespace graft::kernels::vectorized {

// Panels of which a grid's terms are some: those from `first_term` on.
template <class T>
struct Weights {
  const T* data;
  Index terms, first_term;

  const T* panel(Index first_column, Index depth, Index width) const {
    return data + (first_column * terms + first_term * width) * stored_depth<T>(depth);
  }
};

// How positions and panels are shared out. A block's part of the source stays in the second-level cache while all
// panels of a share go over it.
struct Shares {
  Index positions, blocks, panel_groups;

  Shares(Index all_positions, Index depth, Index panel_count, Index source_elements = cache_bytes() / 16)
      : positions(all_positions) {
    constexpr Index kLeast = 48, kMost = 256;
    const Index size = std::clamp(source_elements / depth, kLeast, kMost);
    blocks = (positions + size - 1) / size;
    if (blocks >= 2 * threads()) blocks = (blocks + threads() - 1) / threads() * threads();
    panel_groups = blocks >= 2 * threads() ? 1 : std::min(panel_count, (2 * threads() + blocks - 1) / blocks);
  }
  /// Where a block begins: after whole tiles.
  Index begin(Index block) const {
    const Index tiles = (positions + kTileRows - 1) / kTileRows;
    return std::min(part(tiles, blocks, block) * kTileRows, positions);
  }
};

/// y = clamp(the sums of the grid + bias + residual).
template <class T>
void convolve(const Grid& grid, const Source<T>& source, const Weights<T>& weights, const Result<T>& y);
extern template void convolve(const Grid&, const Source<float>&, const Weights<float>&, const Result<float>&);
extern template void convolve(const Grid&, const Source<Half>&, const Weights<Half>&, const Result<Half>&);

/// The same by AMX, where the machine has it.
void convolve_by_amx(const Grid& grid, const Source<Half>& source, const Weights<Half>& weights, const Result<Half>& y);

/// dw[c, term, k] (+)= sum over positions of source[row(position, term), k] slopes[position, c], by AMX.
void correlate_by_amx(const Grid& grid, const Source<Half>& source, const Source<Half>& slopes, float* dw,
                      bool accumulate);

}  // namespace graft::kernels::vectorized
