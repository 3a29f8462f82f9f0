#pragma once

#include "cpu/vectorized/tiles.h"

// What the AMX translation unit offers; see tiles.h for what it may not share. A tile of AMX's holds 16 rows of 64
// bytes: 32 numbers in bf16, of which it multiplies 16 rows with 16 columns in 16 cycles.
namespace graft::kernels::vectorized {

/// Rows and columns of a product, two tiles by two; its depth goes in steps of a tile's.
inline constexpr std::int64_t kAmxRows = 32, kAmxTileRows = 16, kAmxDepth = 32, kAmxSums = kAmxRows * kTileColumns;

/// Numbers of 32 rows, for each half of them: row r begins at rows + r pitch.
struct AmxRows {
  struct Half16 {
    const Half* rows;
    std::int64_t pitch;
  };
  Half16 upper, lower;
  std::int64_t depth;  ///< a multiple of kAmxDepth
};

/// Rows that lie one like the other, `pitch` apart.
AmxRows side_by_side(const Half* rows, std::int64_t pitch, std::int64_t depth);

/// sums[r, c] (+)= sum over k of rows[r, k] weights[k, c] for 32 rows, and columns of a panel.
struct AmxTile {
  const AmxRows* rows = nullptr;  ///< one stretch of k after the other
  std::int64_t stretches = 1;
  const Half* weights = nullptr;  ///< [depth / 2, columns, 2]
  std::int64_t columns = 0;       ///< 16 or 32
  float* sums = nullptr;          ///< [kAmxRows, kTileColumns]
  std::int64_t count = 0;         ///< of rows whose sums are wanted: with 16 or fewer the lower half is not read
  bool accumulate = false;
};
void amx_tile(const AmxTile& tile);

/// Makes this thread's tiles those of amx_tile, for as long as it lives.
class AmxTiles {
 public:
  AmxTiles();
  ~AmxTiles();
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;
};

/// to[r pitch + k] = rows[r][first + k] for `count` rows and k below `depth`, and zeros up to the next vector of 32.
void gather_rows(const Half* const* rows, std::int64_t count, std::int64_t first, std::int64_t depth, Half* to,
                 std::int64_t pitch);

/// to[c pitch + p] = from[rows[p] from_pitch + c] for p below `count` and 16 columns c, of which those from `columns`
/// on are zeros, as are p up to the next multiple of 32.
void transpose_rows(const Half* from, std::int64_t from_pitch, const std::int64_t* rows, std::int64_t count,
                    std::int64_t columns, Half* to, std::int64_t pitch);

/// Rows p of a panel in pairs, [count / 2, columns, 2]: rows[p][first + c] for c below `columns`, zeros up to 16 or 32
/// of them, and up to the next multiple of 32 rows.
void pair_rows(const Half* const* rows, std::int64_t count, std::int64_t first, std::int64_t columns, Half* to);

/// Columns c of a panel in pairs, [depth / 2, 32, 2]: from[c pitch + k] for c below `count`, at most 32, and k below
/// `depth`; zeros beyond, up to the next multiple of 32 in depth.
void pair_columns(const Half* from, std::int64_t pitch, std::int64_t count, std::int64_t depth, Half* to);

/// Writes sums [kAmxRows, kTileColumns] as a ProductTile does those that it makes.
void write_sums(const float* sums, const ProductTile<Half>& tile);

}  // namespace graft::kernels::vectorized
