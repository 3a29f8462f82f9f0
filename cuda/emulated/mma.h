#pragma once

#include <array>
#include <cstdint>

namespace graft::emulated {

/// What one lane brings to mma.sync.m16n8k16; which elements these are is told in device/mma.h.
struct Multiplicands {
  std::uint32_t a[4], b[2];
  float c[4];
  bool bfloat;  ///< bfloat16, not float16
};

/// mma.sync: the lane's four sums.
std::array<float, 4> multiply_add_of_warp(const Multiplicands& lane);

/// ldmatrix.x4: the lane's two elements of each of four matrices, given the row that the lane names.
std::array<std::uint32_t, 4> load_matrices_of_warp(const void* row, bool transpose);

}  // namespace graft::emulated
