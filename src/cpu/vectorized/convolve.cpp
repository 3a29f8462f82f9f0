#include "cpu/vectorized/convolve.h"

#include <array>
#include <numeric>
#include <optional>
#include <vector>

#include "cpu/activate_row.h"
#include "cpu/vector_ops.h"
#include "cpu/vectorized/machine.h"

namespace graft::kernels::vectorized {
namespace {

// Rows side by side, if those of a tile would share so few sets of the first-level cache that they drive each other out
// of it: rows that are a multiple of a page apart.
template <class T>
class NearRows {
 public:
  static bool wanted(const Grid& grid, Index pitch, Index panel_count) {
    constexpr Index kPage = 4096, kLeastPanels = 4;
    const Index apart = grid.inner.step * grid.inner.apart * pitch * Index{sizeof(T)};
    return grid.terms() == 1 && apart % kPage == 0 && panel_count >= kLeastPanels;
  }
  NearRows(const T* const* rows, Index count, Index depth)
      : pitch_(round_up(depth, kLine) + kLine), memory_(count * pitch_) {
    for (Index r = 0; r < count; ++r) rows_.push_back(std::copy_n(rows[r], depth, memory_.data() + r * pitch_) - depth);
  }
  const T* const* rows() const { return rows_.data(); }

 private:
  static constexpr Index kLine = 64 / sizeof(T);  // numbers of a cache line

  Index pitch_;
  Scratch<T> memory_;
  std::vector<const T*> rows_;
};

// A tile of sums of halves, to which nothing is added, with an activation that is none of the tile's own: it is
// computed before they are rounded.
void activated_tile(const ProductTile<Half>& tile, Activation activation) {
  std::array<float, static_cast<std::size_t>(kTileRows * kTileColumns)> sums{};
  std::array<Index, static_cast<std::size_t>(kTileRows)> in_order;
  std::iota(in_order.begin(), in_order.end(), Index{0});
  product_tile(ProductTile<Half, float>{.rows = tile.rows,
                                        .row_stride = tile.row_stride,
                                        .ahead = tile.ahead,
                                        .terms = tile.terms,
                                        .depth = tile.depth,
                                        .weights = tile.weights,
                                        .bias = tile.bias,
                                        .y = sums.data(),
                                        .y_pitch = kTileColumns,
                                        .positions = in_order.data(),
                                        .count = tile.count,
                                        .columns = tile.columns});
  graft::cpu::activate_row(activation, sums.data(), tile.count * kTileColumns);
  for (Index r = 0; r < tile.count; ++r)
    graft::cpu::put(reinterpret_cast<bfloat16*>(tile.y + tile.positions[r] * tile.y_pitch),
                    sums.data() + r * kTileColumns, tile.columns, false);
}

}  // namespace

template <class T>
void convolve(const Grid& grid, const Source<T>& source, const Weights<T>& weights, const Result<T>& y) {
  const Index depth = grid.run * source.channels, panel_count = panels(y.columns), positions = grid.positions();
  if (positions == 0) return;  // a phase that a narrow image does not have
  if constexpr (std::is_same_v<T, Half>) {
    if (has_amx_bf16()) return convolve_by_amx(grid, source, weights, y);
  }
  const Shares shares(positions, depth, panel_count);
  const bool streams = y.streams(positions);
  parallel_for(shares.panel_groups * shares.blocks, [&](Index share) {
    const Index group = share / shares.blocks, block = share % shares.blocks;
    RowTable<T> table(grid, source.data, source.pitch, source.channels);
    table.move_to(shares.begin(block), shares.begin(block + 1));
    const Index tiles = (table.count() + kTileRows - 1) / kTileRows;
    const Index first_panel = part(panel_count, shares.panel_groups, group),
                end_panel = part(panel_count, shares.panel_groups, group + 1);
    std::optional<NearRows<T>> near;
    if (NearRows<T>::wanted(grid, source.pitch, end_panel - first_panel))
      near.emplace(table.rows(0), table.count(), depth);
    const auto compute = [&](Index panel, Index i) {
      const Index first = panel * kTileColumns;
      const Index begin = i * kTileRows, count = std::min(kTileRows, table.count() - begin);
      const graft::cpu::Range terms = grid.terms_of(table.begin() + begin, table.begin() + begin + count);
      ProductTile<T> tile = y.tile(first, table.results() + begin, count, streams);
      const Index width = panel_width(tile.columns);
      tile.rows = (near ? near->rows() : table.rows(terms.begin)) + begin;
      tile.row_stride = table.count();
      tile.ahead = panel == first_panel && i + 1 < tiles && !near ? count : 0;
      tile.terms = terms.end - terms.begin;
      tile.depth = depth;
      tile.weights = weights.panel(first, depth, width) + terms.begin * stored_depth<T>(depth) * width;
      if constexpr (std::is_same_v<T, Half>) {
        if (y.activates_after()) return activated_tile(tile, y.activation);
      }
      product_tile(tile);
      if constexpr (std::is_same_v<T, float>) {
        for (Index r = 0; y.activates_after() && r < tile.count; ++r)
          graft::cpu::activate_row(y.activation, tile.y + tile.positions[r] * tile.y_pitch, tile.columns);
      }
    };
    const Index weight_bytes = (end_panel - first_panel) * kTileColumns * grid.terms() * depth * Index{sizeof(T)};
    if (weight_bytes <= cache_bytes() / 2) {  // rows of y are written in one go
      for (Index i = 0; i < tiles; ++i) {
        for (Index panel = first_panel; panel < end_panel; ++panel) compute(panel, i);
      }
    } else {
      for (Index panel = first_panel; panel < end_panel; ++panel) {
        for (Index i = 0; i < tiles; ++i) compute(panel, i);
      }
    }
    if (streams) finish_streams();
  });
}

template void convolve(const Grid&, const Source<float>&, const Weights<float>&, const Result<float>&);
template void convolve(const Grid&, const Source<Half>&, const Weights<Half>&, const Result<Half>&);

}  // namespace graft::kernels::vectorized
