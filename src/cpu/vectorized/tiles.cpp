#include "cpu/vectorized/tiles.h"

#include <immintrin.h>

#include "cpu/vectorized/machine.h"
#include "cpu/vectorized/tile_table.h"

namespace graft::kernels::vectorized {
namespace {

const FloatTable& floats() {
  static const FloatTable& table = has_avx512() ? kAvx512 : kAvx2;
  return table;
}
const HalfTable& halves() {
  static const HalfTable& table = has_avx512_bf16() ? kAvx512Half : kAvx2Half;
  return table;
}

}  // namespace

void product_tile(const ProductTile<float>& tile) { floats().product(tile); }
void product_tile(const ProductTile<Half>& tile) { halves().product(tile); }
void product_tile(const ProductTile<Half, float>& tile) { halves().sums(tile); }
void gradient_tile(const GradientTile& tile) { floats().gradient(tile); }
void dot_tile(const float* rows, std::int64_t row_pitch, std::int64_t count, const float* columns,
              std::int64_t column_pitch, std::int64_t depth, float (&sums)[kDotRows][kDotColumns]) {
  floats().dot(rows, row_pitch, count, columns, column_pitch, depth, sums);
}
void finish_streams() { _mm_sfence(); }

void transpose_panel(const float* from, std::int64_t pitch, std::int64_t columns, std::int64_t depth, float* to) {
  floats().transpose(from, pitch, columns, depth, to);
}
void pair_panel(const float* from, std::int64_t depth, std::int64_t width, Half* to) {
  halves().pair(from, depth, width, to);
}

void winograd_input(const float* const* pixels, std::int64_t channels, float* to, std::int64_t stride) {
  floats().winograd_input(pixels, channels, to, stride);
}
void winograd_input(const Half* const* pixels, std::int64_t channels, float* to, std::int64_t stride) {
  halves().winograd_input(pixels, channels, to, stride);
}
void winograd_weights(const float* taps, const int* tap_order, std::int64_t tap_stride, std::int64_t count, float* to,
                      std::int64_t stride) {
  floats().winograd_weights(taps, tap_order, tap_stride, count, to, stride);
}
void winograd_output(const WinogradOutput<float>& tile) { floats().winograd_output(tile); }
void winograd_output(const WinogradOutput<Half>& tile) { halves().winograd_output(tile); }

void sum_moments(const MomentRows<float>& block) { floats().sum_moments(block); }
void sum_moments(const MomentRows<Half>& block) { halves().sum_moments(block); }
void map_rows(const AffineRows<float>& block) { floats().map_rows(block); }
void map_rows(const AffineRows<Half>& block) { halves().map_rows(block); }
void sum_slopes(const SlopeRows<float>& block) { floats().sum_slopes(block); }
void sum_slopes(const SlopeRows<Half>& block) { halves().sum_slopes(block); }
void map_gradient(const GradientRows<float>& block) { floats().map_gradient(block); }
void map_gradient(const GradientRows<Half>& block) { halves().map_gradient(block); }

}  // namespace graft::kernels::vectorized
