#pragma once

#include <array>
#include <cstdint>

#include "graft/core/dtype.h"

namespace graft::emulated {

/// What one lane brings to mma.sync, m16n8k16 of halves or m16n8k8 of TF32; which elements these are is told in
/// device/mma.h.
struct Multiplicands {
  std::uint32_t a[4], b[2];
  float c[4];
  DType dtype;  ///< of the factors; f32 for TF32
};

/// cvt.rna.tf32.f32.
std::uint32_t rounded_to_tf32(std::uint32_t bits);

/// mma.sync: the lane's four sums. Of a float it reads what a tensor core does, sign, exponent and the upper 10 bits of
/// the fraction.
std::array<float, 4> multiply_add_of_warp(const Multiplicands& lane);

/// ldmatrix.x4: the lane's two elements of each of four matrices, given the row that the lane names.
std::array<std::uint32_t, 4> load_matrices_of_warp(const void* row, bool transpose);

}  // namespace graft::emulated
