#include "cpu/activate_row.h"
#include "cpu/vectorized/amx_tile.h"
#include "cpu/vectorized/convolve.h"

// A product by AMX reads both factors from memory, rows of the left one at even distances. Where a tile's pixels do not
// lie so, or share a few sets of the cache, its rows are brought together: a piece of their depth at a time that stays
// in the first-level cache while it meets the panels of a pass, whose pieces stay in the second-level cache while all
// tiles of a block go over them.
namespace graft::kernels::vectorized {
namespace {

constexpr Index kPiece = 256;             // of the depth: with 32 rows 16 KiB
constexpr Index kPassElements = 1 << 18;  // of the panels' pieces: 512 KiB
constexpr Index kFarApart = 1 << 10;      // rows that begin 2 KiB apart share a few sets

// A piece of the depth of a tile's rows, the terms one behind the other.
class Piece {
 public:
  Piece(const RowTable<Half>& table, Index depth) : table_(table), depth_(depth), memory_(kAmxRows * kPitch) {}

  // Numbers begin .. end-1 of the terms from `first_term` on, of rows from `row` on.
  void move_to(Index first_term, Index begin, Index end, Index row, Index count) {
    stretches_.clear();
    const Index stored = stored_depth<Half>(depth_);
    const bool whole_terms = depth_ % kAmxDepth == 0;
    Index written = 0;
    for (Index at = begin; at < end;) {
      const Index term = at / stored, first = at - term * stored, numbers = std::min(end - at, depth_ - first);
      const Half* const* rows = table_.rows(first_term + term) + row;
      Half* const to = memory_.data() + at - begin;
      if (whole_terms) {
        const Index upper = std::min(count, kAmxTileRows);
        stretches_.push_back({half(rows, upper, first, numbers, to),
                              half(rows + upper, count - upper, first, numbers, to + kAmxTileRows * kPitch), numbers});
      } else {
        gather_rows(rows, count, first, numbers, to, kPitch);
      }
      written = at - begin + round_up(numbers, kAmxDepth);
      at = std::min(end, (term + 1) * stored);
    }
    if (whole_terms) return;
    const Index whole = round_up(end - begin, kAmxDepth);
    for (Index r = 0; r < count && written < whole; ++r)
      std::fill(memory_.data() + r * kPitch + written, memory_.data() + r * kPitch + whole, Half{});
    stretches_.push_back(side_by_side(memory_.data(), kPitch, whole));
  }
  const std::vector<AmxRows>& stretches() const { return stretches_; }

 private:
  static constexpr Index kPitch = kPiece + kAmxDepth;  // no power of two, for the same reason

  static AmxRows::Half16 half(const Half* const* rows, Index count, Index first, Index numbers, Half* to) {
    if (count == kAmxTileRows) {
      const std::ptrdiff_t pitch = rows[1] - rows[0];
      bool even = pitch >= 0 && pitch < kFarApart;
      for (Index r = 2; r < kAmxTileRows && even; ++r) even = rows[r] == rows[r - 1] + pitch;
      if (even) return {rows[0] + first, pitch};
    }
    gather_rows(rows, count, first, numbers, to, kPitch);
    return {to, kPitch};
  }

  const RowTable<Half>& table_;
  Index depth_;
  Scratch<Half> memory_;
  std::vector<AmxRows> stretches_;
};

void activate(float* sums, Index rows, Index columns, const float* bias, Activation activation) {
  for (Index r = 0; r < rows; ++r, sums += kTileColumns) {
    for (Index c = 0; c < columns && bias != nullptr; ++c) sums[c] += bias[c];
    graft::cpu::activate_row(activation, sums, columns);
  }
}

}  // namespace

void convolve_by_amx(const Grid& grid, const Source<Half>& source, const Weights<Half>& weights,
                     const Result<Half>& y) {
  const Index depth = grid.run * source.channels, stored = stored_depth<Half>(depth);
  const Index panel_count = panels(y.columns), positions = grid.positions();
  if (positions == 0) return;  // a phase that a narrow image does not have
  const Shares shares(positions, depth, panel_count, 1 << 17);
  const bool streams = y.streams(positions);
  parallel_for(shares.panel_groups * shares.blocks, [&](Index share) {
    const Index group = share / shares.blocks, block = share % shares.blocks;
    RowTable<Half> table(grid, source.data, source.pitch, source.channels);
    table.move_to(part(positions, shares.blocks, block), part(positions, shares.blocks, block + 1));
    const graft::cpu::Range terms = grid.terms_of(table.begin(), table.begin() + table.count());
    const Index all = (terms.end - terms.begin) * stored, pieces = std::max<Index>(1, (all + kPiece - 1) / kPiece);
    const Index tiles = (table.count() + kAmxRows - 1) / kAmxRows;
    const Index first_panel = part(panel_count, shares.panel_groups, group),
                end_panel = part(panel_count, shares.panel_groups, group + 1);
    const Index pass = std::max<Index>(1, kPassElements / (kTileColumns * std::min(kPiece, std::max<Index>(all, 1))));
    const Scratch<float> sums(pieces > 1 ? tiles * pass * kAmxSums : kAmxSums);
    Piece rows(table, depth);
    const AmxTiles configured;
    for (Index from = first_panel; from < end_panel; from += pass) {
      const Index to = std::min(from + pass, end_panel);
      for (Index piece = 0; piece < pieces; ++piece) {
        const Index begin = piece * kPiece, end = std::min(all, begin + kPiece);
        for (Index i = 0; i < tiles; ++i) {
          const Index row = i * kAmxRows, count = std::min(kAmxRows, table.count() - row);
          rows.move_to(terms.begin, begin, end, row, count);
          for (Index panel = from; panel < to; ++panel) {
            const Index first = panel * kTileColumns;
            ProductTile<Half> result = y.tile(first, table.results() + row, count, streams);
            const Index width = panel_width(result.columns);
            float* const tile_sums = sums.data() + (pieces > 1 ? (i * pass + panel - from) * kAmxSums : 0);
            amx_tile({.rows = rows.stretches().data(),
                      .stretches = std::ssize(rows.stretches()),
                      .weights = weights.panel(first, depth, width) + (terms.begin * stored + begin) * width,
                      .columns = width,
                      .sums = tile_sums,
                      .count = count,
                      .accumulate = piece > 0});
            if (piece + 1 < pieces) continue;
            if (y.activates_after()) {
              activate(tile_sums, count, result.columns, result.bias, y.activation);
              result.bias = nullptr;
            }
            write_sums(tile_sums, result);
          }
        }
      }
    }
    if (streams) finish_streams();
  });
}

}  // namespace graft::kernels::vectorized
