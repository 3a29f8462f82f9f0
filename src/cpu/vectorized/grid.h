#pragma once

#include <vector>

#include "cpu/vectorized/tiles.h"
#include "cpu/window_taps.h"
#include "kernels/conv2d.h"

// Which pixels meet in a convolution, its gradients included: each position of a grid has a sum, and each tap of the
// window is a term of it, a row of a source image times a matrix of weights.
namespace graft::kernels::vectorized {

/// One of the two directions of a grid. Position i and tap p read source pixel i step + first + p tap_step, or zeros
/// where that lies outside of 0 .. extent-1; the sum belongs to pixel i to_step + to_first of the result. Neighbouring
/// pixels lie `apart` and `to_apart` pixels apart.
struct Axis {
  Index positions = 0, taps = 1;
  Index step = 1, first = 0, tap_step = 1, extent = 0;
  Index to_step = 1, to_first = 0, to_extent = 0;
  Index apart = 1, to_apart = 1;

  /// The taps that are inside for position i.
  graft::cpu::Range inside(Index i) const;
};

/// Taps are counted as (outer, inner), positions as (image, outer, inner); or, where outer taps lie outside at the
/// border, as (outer, image, inner): positions side by side then mostly miss the same taps, which a tile of them leaves
/// out.
struct Grid {
  Index images = 0;
  Axis outer, inner;
  bool images_inside = false;
  Index run = 1;  ///< a tap reads so many pixels from its first one on, as a single row of their channels

  Index positions() const { return images * outer.positions * inner.positions; }
  Index terms() const { return outer.taps * inner.taps; }
  /// Chooses the order of positions.
  void arrange();
  /// The terms that are not zero for all of positions begin .. end-1, and perhaps some that are.
  graft::cpu::Range terms_of(Index begin, Index end) const;
};

/// The windows of a convolution. With so few channels that a row of one pixel's would be short, a tap is a whole row of
/// the window.
Grid forward_grid(const ConvGeometry& g);
/// Rows and columns of the input that have the same remainder by the stride are seen by the same taps: the gradient of
/// such a phase is a convolution of dz without stride.
struct Phase {
  Grid grid;
  std::vector<Index> taps;  ///< p Kw + q of the window for each term
};
std::vector<Phase> backward_input_phases(const ConvGeometry& g);

/// Where the rows of a range of positions begin, term by term.
template <class T>
class RowTable {
 public:
  /// `channels` of a source image [images, rows, columns, pitch].
  RowTable(const Grid& grid, const T* source, Index pitch, Index channels)
      : grid_(grid),
        source_(source),
        pitch_(pitch),
        channels_(channels),
        zeros_(static_cast<std::size_t>(grid.run * channels)) {}

  /// Reads positions begin .. end-1 from here on.
  void move_to(Index begin, Index end);

  Index begin() const { return begin_; }
  Index count() const { return end_ - begin_; }
  const T* const* rows(Index term) const { return rows_.data() + term * count(); }
  /// Which row of the result each position is.
  const Index* results() const { return results_.data(); }

 private:
  void fill(Index outer_tap, Index inner_tap, const T** to);
  const T* edge(const T* line, Index pixel);

  const Grid& grid_;
  const T* source_;
  Index pitch_, channels_, begin_ = 0, end_ = 0;
  std::vector<T> zeros_;
  std::vector<const T*> rows_;
  std::vector<Index> results_;
  std::vector<std::vector<T>> edges_;  // windows that lie across the border, and zeros
  std::size_t edges_used_ = 0;
};

extern template class RowTable<float>;
extern template class RowTable<Half>;

}  // namespace graft::kernels::vectorized
