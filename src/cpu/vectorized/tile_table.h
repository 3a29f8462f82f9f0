#pragma once

#include "cpu/vectorized/norm_rows.h"
#include "cpu/vectorized/tiles.h"

// The functions of tiles.h and norm_rows.h as one instruction set computes them.
namespace graft::kernels::vectorized {

template <class T>
struct Table {
  void (*product)(const ProductTile<T>&);
  void (*winograd_input)(const T* const*, std::int64_t, float*, std::int64_t);
  void (*winograd_output)(const WinogradOutput<T>&);
  void (*sum_moments)(const MomentRows<T>&);
  void (*map_rows)(const AffineRows<T>&);
  void (*sum_slopes)(const SlopeRows<T>&);
  void (*map_gradient)(const GradientRows<T>&);
};

struct FloatTable : Table<float> {
  decltype(&gradient_tile) gradient;
  decltype(&dot_tile) dot;
  decltype(&transpose_panel) transpose;
  decltype(&vectorized::winograd_weights) winograd_weights;
};

struct HalfTable : Table<Half> {
  void (*sums)(const ProductTile<Half, float>&);
  decltype(&pair_panel) pair;
};

extern const FloatTable kAvx2, kAvx512;
extern const HalfTable kAvx2Half, kAvx512Half;

}  // namespace graft::kernels::vectorized
