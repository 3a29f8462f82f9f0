#pragma once

#include "cpu/vectorized/dot.h"
#include "cpu/vectorized/gradient.h"
#include "cpu/vectorized/norm_rows_of.h"
#include "cpu/vectorized/panels.h"
#include "cpu/vectorized/product.h"
#include "cpu/vectorized/tile_table.h"
#include "cpu/vectorized/winograd_transforms.h"

// What the instruction set that a translation unit is compiled for makes of each tile.
namespace graft::kernels::vectorized {
namespace {

template <class T>
constexpr Table<T> kTable{product_of<T, T>, winograd_input_of<T>, winograd_output_of<T>, sum_moments_of<T>,
                          map_rows_of<T>,   sum_slopes_of<T>,     map_gradient_of<T>};

[[maybe_unused]] constexpr FloatTable kFloats{kTable<float>, gradient_of, dots_of, transpose_panel_of,
                                              winograd_weights_of};
/// Made only where it is used: AVX-512 alone cannot round to bf16.
template <class T = Half>
constexpr HalfTable kHalves{kTable<T>, product_of<T, float>, pair_panel_of<T>};

}  // namespace
}  // namespace graft::kernels::vectorized
