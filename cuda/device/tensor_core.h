#pragma once

#include "device/mma.h"
#include "device/reduce.h"
#include "device/tile.h"

namespace graft::GRAFT_TARGET {

/// The part of a product of halves that a block computes on tensor cores: each warp has WarpRows x WarpColumns sums,
/// in pieces of 16 x 8 that one instruction multiplies. A warp reads WarpRows + WarpColumns lines of shared memory for
/// WarpRows * WarpColumns multiply-adds each, so wide warp tiles keep shared memory from being the limit.
template <class T, int Rows, int Columns, int Depth, int WarpRows, int WarpColumns, int Stages, int Blocks>
struct TensorCore {
  using Element = T;
  using Sum = float;
  static constexpr int kRows = Rows, kColumns = Columns, kDepth = Depth, kStages = Stages;
  static constexpr int kThreads = Rows / WarpRows * (Columns / WarpColumns) * kLanes;
  static constexpr int kBlocks = Blocks;  // on a multiprocessor

  // Tiles keep the order of memory, and ldmatrix transposes what lies the other way. Eight elements between the lines
  // put the eight rows of 16 bytes that ldmatrix reads together into different banks.
  template <class Source, int Lines>
  using Layout = TileLayout<T, Lines, Depth, Source::kDepthInner, 8>;
  template <class Source, bool Wide>
  static constexpr int kCopy = Wide ? kVector<T> : 1;

  static constexpr int kSlabs = 1, kSlabRows = Rows;
  static constexpr int kDown = WarpRows / 16, kAcross = WarpColumns / 8;  // instructions of a warp
  static_assert(WarpRows % 16 == 0 && WarpColumns % 16 == 0 && Depth % 16 == 0);

  using Sums = float[kDown][kAcross][4];

  __device__ static int warp_row() {
    return static_cast<int>(threadIdx.x) / kLanes / (Columns / WarpColumns) * WarpRows;
  }
  __device__ static int warp_column() {
    return static_cast<int>(threadIdx.x) / kLanes % (Columns / WarpColumns) * WarpColumns;
  }

  /// sums += tile of A times tile of B.
  template <class LayoutA, class LayoutB>
  __device__ static void multiply(const T* a, const T* b, Sums& sums) {
    // Of the four matrices [8, 8] of one load, lane l names row l % 8 of matrix l / 8. In A they go down first, then
    // along the depth; in B along the depth first, then to the next eight columns.
    const int lane = static_cast<int>(threadIdx.x) % kLanes, line = lane % 8, odd = lane / 8 % 2 * 8,
              upper = lane / 16 * 8;
    GRAFT_UNROLL
    for (int k = 0; k < Depth; k += 16) {
      std::uint32_t left[kDown][4], right[kAcross / 2][4];
      GRAFT_UNROLL
      for (int i = 0; i < kDown; ++i) {
        const int row = warp_row() + i * 16 + odd, depth = k + upper;
        if constexpr (LayoutA::kDepthInner)
          load_matrices<false>(a + LayoutA::at(row + line, depth), left[i]);
        else
          load_matrices<true>(a + LayoutA::at(row, depth + line), left[i]);
      }
      GRAFT_UNROLL
      for (int j = 0; j < kAcross / 2; ++j) {
        const int column = warp_column() + j * 16 + upper, depth = k + odd;
        if constexpr (LayoutB::kDepthInner)
          load_matrices<false>(b + LayoutB::at(column + line, depth), right[j]);
        else
          load_matrices<true>(b + LayoutB::at(column, depth + line), right[j]);
      }
      GRAFT_UNROLL
      for (int i = 0; i < kDown; ++i) {
        GRAFT_UNROLL
        for (int j = 0; j < kAcross; ++j)
          multiply_add<T>(sums[i][j], left[i], right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]);
      }
    }
  }

  /// Puts the warp's sums into a matrix in shared memory.
  __device__ static void put(const Sums& sums, int, float* to, int pitch) {
    const int lane = static_cast<int>(threadIdx.x) % kLanes, g = lane / 4, t = lane % 4 * 2;
    GRAFT_UNROLL
    for (int i = 0; i < kDown; ++i) {
      GRAFT_UNROLL
      for (int j = 0; j < kAcross; ++j) {
        float* const at = to + (warp_row() + i * 16 + g) * pitch + warp_column() + j * 8 + t;
        store(at, Vector<float, 2>{{sums[i][j][0], sums[i][j][1]}});
        store(at + 8 * pitch, Vector<float, 2>{{sums[i][j][2], sums[i][j][3]}});
      }
    }
  }
};

}  // namespace graft::GRAFT_TARGET
