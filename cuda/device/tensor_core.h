#pragma once

#include <bit>

#include "device/mma.h"
#include "device/reduce.h"
#include "device/tile.h"

namespace graft::GRAFT_TARGET {

/// The part of a product of halves, or of floats as TF32, that a block computes on tensor cores: each warp has WarpRows
/// x WarpColumns sums, in pieces of 16 x 8 that one instruction multiplies. A warp reads WarpRows + WarpColumns lines
/// of shared memory for WarpRows * WarpColumns multiply-adds each, so wide warp tiles keep shared memory from being the
/// limit.
template <class T, int Rows, int Columns, int Depth, int WarpRows, int WarpColumns, int Stages, int Blocks>
struct TensorCore {
  using Element = T;
  using Sum = float;
  static constexpr int kRows = Rows, kColumns = Columns, kDepth = Depth, kStages = Stages;
  static constexpr int kThreads = Rows / WarpRows * (Columns / WarpColumns) * kLanes;
  static constexpr int kBlocks = Blocks;  // on a multiprocessor

  // Tiles keep the order of memory, and fragments are transposed where they lie the other way. 16 bytes between lines
  // along the depth put the eight rows of 16 bytes that ldmatrix reads together into different banks. Across it, so do
  // eight elements: for the rows of ldmatrix, and for the eight floats from each of four lines that a warp reads.
  template <class Source, int Lines>
  using Layout = TileLayout<T, Lines, Depth, Source::kDepthInner, Source::kDepthInner ? kVector<T> : 8>;
  template <class Source, bool Wide>
  static constexpr int kCopy = Wide ? kVector<T> : 1;

  static constexpr int kSlabs = 1, kSlabRows = Rows;
  static constexpr int kDown = WarpRows / 16, kAcross = WarpColumns / 8;  // instructions of a warp
  static_assert(WarpRows % 16 == 0 && WarpColumns % 16 == 0 && Depth % kMmaDepth<T> == 0);

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
    GRAFT_UNROLL
    for (int k = 0; k < Depth; k += kMmaDepth<T>) {
      std::uint32_t left[kDown][4], right[kAcross / 2][4];
      GRAFT_UNROLL
      for (int i = 0; i < kDown; ++i) load_fragments<LayoutA, true>(a, warp_row() + i * 16, k, left[i]);
      GRAFT_UNROLL
      for (int j = 0; j < kAcross / 2; ++j) load_fragments<LayoutB, false>(b, warp_column() + j * 16, k, right[j]);
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

 private:
  // What the lane holds of a tile's lines line .. line + 15 at depths depth .. depth + kMmaDepth - 1, cut into four
  // matrices of eight lines and half the depth. With LinesFirst, as in A, matrices 0 and 1 are those of the first half
  // of the depth, else, as in B, those of the first eight lines.
  template <class Layout, bool LinesFirst>
  __device__ static void load_fragments(const T* tile, int line, int depth, std::uint32_t (&to)[4]) {
    constexpr int kHalf = kMmaDepth<T> / 2;
    const auto line_of = [&](int matrix) { return line + (LinesFirst ? matrix % 2 : matrix / 2) * 8; };
    const auto depth_of = [&](int matrix) { return depth + (LinesFirst ? matrix / 2 : matrix % 2) * kHalf; };
    const int lane = static_cast<int>(threadIdx.x) % kLanes, matrix = lane / 8;  // whose row ldmatrix gets from here
    if constexpr (Layout::kDepthInner) {
      load_matrices<false>(tile + Layout::at(line_of(matrix) + lane % 8, depth_of(matrix)), to);
    } else if constexpr (sizeof(T) == 2) {
      load_matrices<true>(tile + Layout::at(line_of(matrix), depth_of(matrix) + lane % 8), to);
    } else {  // ldmatrix transposes halves only
      GRAFT_UNROLL
      for (int m = 0; m < 4; ++m) to[m] = bits_of(tile[Layout::at(line_of(m) + lane / 4, depth_of(m) + lane % 4)]);
    }
    if constexpr (sizeof(T) == 4) {
      GRAFT_UNROLL
      for (int m = 0; m < 4; ++m) to[m] = round_to_tf32(to[m]);
    }
  }

  __device__ static std::uint32_t bits_of(float value) {
#if defined(__CUDA_ARCH__)
    return __float_as_uint(value);
#else
    return std::bit_cast<std::uint32_t>(value);
#endif
  }
};

}  // namespace graft::GRAFT_TARGET
