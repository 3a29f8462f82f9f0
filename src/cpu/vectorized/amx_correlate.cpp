#include "cpu/vectorized/amx_tile.h"
#include "cpu/vectorized/convolve.h"

// The gradient of weights as a product whose depth are the positions: dz transposed, times rows of the image in pairs.
namespace graft::kernels::vectorized {
namespace {

// What a thread computes of dw: its output channels, in tiles, and panels of the numbers that terms read.
struct Part {
  Index first_row_tile, row_tiles, first_panel, panels;
};

// Bringing a number of dz to where it is used costs three times as much as one of the image: the thread that does more
// of the cheaper work repeats what another does of it.
std::vector<Part> parts(Index row_tiles, Index panel_count) {
  const bool by_rows = row_tiles >= threads() && 3 * row_tiles >= panel_count;
  const Index count = std::min<Index>(threads(), by_rows ? row_tiles : panel_count);
  std::vector<Part> result;
  for (Index i = 0; i < count; ++i) {
    Part one{0, row_tiles, 0, panel_count};
    Index& first = by_rows ? one.first_row_tile : one.first_panel;
    Index& size = by_rows ? one.row_tiles : one.panels;
    first = part(size, count, i);
    size = part(by_rows ? row_tiles : panel_count, count, i + 1) - first;
    result.push_back(one);
  }
  return result;
}

}  // namespace

void correlate_by_amx(const Grid& grid, const Source<Half>& source, const Source<Half>& slopes, float* dw,
                      bool accumulate) {
  constexpr Index kSlopes = 1 << 18;  // transposed numbers of dz that stay in the second-level cache
  const Index depth = grid.run * source.channels, terms = grid.terms(), positions = grid.positions();
  const Index row_tiles = (slopes.channels + kAmxRows - 1) / kAmxRows, panels_of_term = panels(depth);
  // The order of sums must not depend on the number of threads, so neither may this.
  const Index block = std::clamp<Index>(kSlopes / (row_tiles * kAmxRows) / kAmxDepth * kAmxDepth, 128, 512);
  const Index pitch = block + kAmxDepth;  // no power of two: rows would share a few sets of the cache
  const std::vector<Part> all = parts(row_tiles, terms * panels_of_term);
  parallel_for(std::ssize(all), [&](Index share) {
    const Part& mine = all[static_cast<std::size_t>(share)];
    const Scratch<Half> transposed(mine.row_tiles * kAmxRows * pitch), panel(block * kTileColumns);
    const Scratch<float> sums(mine.row_tiles * mine.panels * kAmxSums);
    RowTable<Half> table(grid, source.data, source.pitch, source.channels);
    const AmxTiles configured;
    const Index first_row = mine.first_row_tile * kAmxRows;
    for (Index first = 0; first < positions; first += block) {
      table.move_to(first, std::min(first + block, positions));
      for (Index c = 0; c < mine.row_tiles * kAmxRows; c += kVectorColumns)
        transpose_rows(slopes.data + std::min(first_row + c, slopes.channels), slopes.pitch, table.results(),
                       table.count(), slopes.channels - first_row - c, transposed.data() + c * pitch, pitch);
      for (Index i = 0; i < mine.panels; ++i) {
        const Index term = (mine.first_panel + i) / panels_of_term;
        const Index column = (mine.first_panel + i) % panels_of_term * kTileColumns;
        const Index columns = std::min(kTileColumns, depth - column);
        pair_rows(table.rows(term), table.count(), column, columns, panel.data());
        for (Index tile = 0; tile < mine.row_tiles; ++tile) {
          const AmxRows rows =
              side_by_side(transposed.data() + tile * kAmxRows * pitch, pitch, round_up(table.count(), kAmxDepth));
          amx_tile({.rows = &rows,
                    .weights = panel.data(),
                    .columns = panel_width(columns),
                    .sums = sums.data() + (i * mine.row_tiles + tile) * kAmxSums,
                    .count = slopes.channels - first_row - tile * kAmxRows,
                    .accumulate = first > 0});
        }
      }
    }
    for (Index i = 0; i < mine.panels; ++i) {
      const Index term = (mine.first_panel + i) / panels_of_term;
      const Index column = (mine.first_panel + i) % panels_of_term * kTileColumns;
      const Index rows = std::min(mine.row_tiles * kAmxRows, slopes.channels - first_row);
      for (Index r = 0; r < rows; ++r) {
        const float* from = sums.data() + i * mine.row_tiles * kAmxSums + r * kTileColumns;
        float* to = dw + ((first_row + r) * terms + term) * depth + column;
        for (Index c = 0; c < std::min(kTileColumns, depth - column); ++c) to[c] = from[c] + (accumulate ? to[c] : 0.f);
      }
    }
  });
}

}  // namespace graft::kernels::vectorized
