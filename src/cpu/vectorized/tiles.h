#pragma once

#include <cstdint>

// What the translation units for one instruction set compute, each of them all of it. They are compiled with flags that
// the rest is not, so they see nothing but this header, norm_rows.h and intrinsics: a function that is inline in two of
// them must not exist. A call goes to the best that the processor has.
namespace graft::kernels::vectorized {

inline constexpr std::int64_t kTileRows = 12;       // AVX-512: with 32 columns 24 sums, 2 weights and a factor
inline constexpr std::int64_t kTileColumns = 32;    // of one panel of weights
inline constexpr std::int64_t kVectorColumns = 16;  // a panel with no more columns is so wide

using Half = std::uint16_t;  ///< a bf16 number

/// So many rows of the table of a gradient are asked for before they are read.
inline constexpr std::int64_t kRowsAhead = 24;

/// Activations that cost nothing on sums in registers.
enum class Clamp : std::uint8_t { none, relu, relu6 };

/// A few rows of a product, a panel of columns wide: for each row r and column c
///   y[r, c] = clamp(sum over terms t and k of rows[t][r][k] weights[t, k, c] + bias[c] + residual[r, c]),
/// summed in f32 in the order of t, then k. T is float, or Half for images and weights in bf16; the weights then stand
/// in pairs, [terms, depth / 2 rounded up, columns, 2], and both products of a pair are added at once. Y is T, or float
/// for sums of halves that are not rounded.
template <class T, class Y = T>
struct ProductTile {
  const T* const* rows = nullptr;  ///< [terms, row_stride]
  std::int64_t row_stride = 0;
  std::int64_t ahead = 0;  ///< rows[t][r + ahead] will be read soon, for each r; 0 if they are in the cache
  std::int64_t terms = 1;
  std::int64_t depth = 0;      ///< of k
  const T* weights = nullptr;  ///< [terms, depth, 16 or 32], zeros where there is no column
  const float* bias = nullptr;
  const Y* residual = nullptr;
  std::int64_t residual_pitch = 0;
  Y* y = nullptr;
  std::int64_t y_pitch = 0;
  const std::int64_t* positions = nullptr;  ///< row r is row positions[r] of y and residual
  std::int64_t count = 0;                   ///< of rows, at most kTileRows
  std::int64_t columns = 0;                 ///< at most kTileColumns
  Clamp clamp = Clamp::none;
  bool streams = false;  ///< y is written around the caches: whole vectors, at addresses that are multiples of 64
};
void product_tile(const ProductTile<float>& tile);
void product_tile(const ProductTile<Half>& tile);
void product_tile(const ProductTile<Half, float>& tile);
/// What this thread wrote around the caches is there for others to read.
void finish_streams();

/// to[k width + c] = from[c pitch + k] for c below `columns`, at most kTileColumns, and k below `depth`; width is that
/// of a panel, 16 or 32, filled up with zeros.
void transpose_panel(const float* from, std::int64_t pitch, std::int64_t columns, std::int64_t depth, float* to);

/// Rounds rows k of a panel, [depth, width], and puts them in pairs, [depth / 2 rounded up, width, 2].
void pair_panel(const float* from, std::int64_t depth, std::int64_t width, Half* to);

/// sums[r, c] = sum over k of rows[r pitch + k] columns[c pitch + k] for `count` rows and kDotColumns columns: for so
/// few rows that bringing the columns into a panel would not pay.
inline constexpr std::int64_t kDotColumns = 4, kDotRows = 4;
void dot_tile(const float* rows, std::int64_t row_pitch, std::int64_t count, const float* columns,
              std::int64_t column_pitch, std::int64_t depth, float (&sums)[kDotRows][kDotColumns]);

/// A part of the sums of a weights' gradient: for each row r and column c
///   sums[r pitch + c] (+)= sum over p of rows[p][r] slopes[p slope_pitch + c], in the order of p.
struct GradientTile {
  const float* const* rows = nullptr;  ///< and kRowsAhead more, which need not be rows
  std::int64_t first = 0;              ///< row r is element first + r of where rows[p] points
  const float* slopes = nullptr;
  std::int64_t slope_pitch = 0;
  std::int64_t positions = 0;  ///< of p
  float* sums = nullptr;
  std::int64_t sum_pitch = kTileColumns;
  std::int64_t count = 0;    ///< of rows, at most kTileRows
  std::int64_t columns = 0;  ///< at most kTileColumns
  bool accumulate = false;
  bool streams = false;  ///< as of a ProductTile
};
void gradient_tile(const GradientTile& tile);

// Winograd's algorithm F(4x4, 3x3): 4x4 results of a 3x3 window from 6x6 = 36 products instead of 144. See winograd.h.
inline constexpr std::int64_t kWinogradTaps = 36, kWinogradIn = 6, kWinogradOut = 4;

/// to[i stride + c] = element i of B^T d B, d the 6x6 pixels whose channels begin at pixels[0..35].
void winograd_input(const float* const* pixels, std::int64_t channels, float* to, std::int64_t stride);
void winograd_input(const Half* const* pixels, std::int64_t channels, float* to, std::int64_t stride);

/// to[i stride + e] = element i of G g G^T, g the 3x3 weights taps[tap_order[0..8] tap_stride + e], for e below
/// `count`, a multiple of 16.
void winograd_weights(const float* taps, const int* tap_order, std::int64_t tap_stride, std::int64_t count, float* to,
                      std::int64_t stride);

/// Of A^T m A the first `rows` x `columns` pixels, with m[i] = from[i stride + c]: adds bias and residual, clamps, and
/// writes.
template <class T>
struct WinogradOutput {
  const float* from = nullptr;
  std::int64_t stride = 0;
  std::int64_t channels = 0;
  const float* bias = nullptr;
  const T* residual = nullptr;
  std::int64_t residual_row = 0, residual_pixel = 0;  ///< how far rows and pixels lie apart
  T* y = nullptr;
  std::int64_t y_row = 0, y_pixel = 0;
  std::int64_t rows = kWinogradOut, columns = kWinogradOut;
  Clamp clamp = Clamp::none;
  bool streams = false;
};
void winograd_output(const WinogradOutput<float>& tile);
void winograd_output(const WinogradOutput<Half>& tile);

}  // namespace graft::kernels::vectorized
