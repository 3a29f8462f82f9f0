#pragma once

#include "device/tile.h"

namespace graft::GRAFT_TARGET {

/// The part of a product of floats or doubles that a block computes, by scalar multiply-adds: each thread has
/// RowsAThread x ColumnsAThread sums in registers and reads a column of A and a row of B for each depth, so that it
/// does RowsAThread * ColumnsAThread / (RowsAThread + ColumnsAThread) multiply-adds for each number from shared memory.
template <class T, int Rows, int Columns, int Depth, int RowsAThread, int ColumnsAThread, int Stages>
struct SimtCore {
  using Element = T;
  using Sum = T;
  static constexpr int kRows = Rows, kColumns = Columns, kDepth = Depth, kStages = Stages;
  static constexpr int kThreads = (Rows / RowsAThread) * (Columns / ColumnsAThread);
  static constexpr int kBlocks = 2;  // on a multiprocessor: at most 128 registers a thread of 256

  // Both tiles have a line for each depth, whatever lies side by side in memory.
  template <class Source, int Lines>
  using Layout = TileLayout<T, Lines, Depth, false, 4>;
  // How many elements a copy moves: several only if they lie side by side in memory and in the tile.
  template <class Source, bool Wide>
  static constexpr int kCopy = Wide && !Source::kDepthInner ? kVector<T> : 1;

  // A thread's rows and columns come in groups of four neighbours, which are read as vectors. Rows of a group index
  // are side by side over the threads, so that a group index is a slab of the tile.
  static constexpr int kGroup = 4;
  static constexpr int kSlabs = RowsAThread / kGroup, kSlabRows = Rows / kSlabs;
  static constexpr int kColumnGroups = ColumnsAThread / kGroup, kThreadColumns = Columns / ColumnsAThread;

  using Sums = Sum[RowsAThread][ColumnsAThread];

  // A warp is 4 threads high and 8 wide: what it reads of A and B together is four and eight vectors.
  __device__ static int thread_row() {
    const int thread = static_cast<int>(threadIdx.x);
    return thread / kLanesOfWarp / (kThreadColumns / 8) * 4 + thread % kLanesOfWarp / 8;
  }
  __device__ static int thread_column() {
    const int thread = static_cast<int>(threadIdx.x);
    return thread / kLanesOfWarp % (kThreadColumns / 8) * 8 + thread % 8;
  }

  /// sums += tile of A times tile of B.
  template <class LayoutA, class LayoutB>
  __device__ static void multiply(const T* a, const T* b, Sums& sums) {
    const int row = thread_row() * kGroup, column = thread_column() * kGroup;
    GRAFT_UNROLL
    for (int k = 0; k < Depth; ++k) {
      Sum left[RowsAThread], right[ColumnsAThread];
      GRAFT_UNROLL
      for (int group = 0; group < kSlabs; ++group)
        load_group(a + LayoutA::at(group * kSlabRows + row, k), left + group * kGroup);
      GRAFT_UNROLL
      for (int group = 0; group < kColumnGroups; ++group)
        load_group(b + LayoutB::at(group * (Columns / kColumnGroups) + column, k), right + group * kGroup);
      GRAFT_UNROLL
      for (int i = 0; i < RowsAThread; ++i) {
        GRAFT_UNROLL
        for (int j = 0; j < ColumnsAThread; ++j) sums[i][j] += left[i] * right[j];
      }
    }
  }

  /// Puts the thread's sums of rows slab * kSlabRows .. + kSlabRows - 1 into a matrix in shared memory.
  __device__ static void put(const Sums& sums, int slab, Sum* to, int pitch) {
    GRAFT_UNROLL
    for (int s = 0; s < kSlabs; ++s) {  // a constant index keeps the sums in registers
      if (s != slab) continue;
      GRAFT_UNROLL
      for (int i = 0; i < kGroup; ++i) {
        GRAFT_UNROLL
        for (int group = 0; group < kColumnGroups; ++group) {
          Sum* const at =
              to + (thread_row() * kGroup + i) * pitch + group * (Columns / kColumnGroups) + thread_column() * kGroup;
          GRAFT_UNROLL
          for (int j = 0; j < kGroup; j += kAtOnce) {
            Vector<Sum, kAtOnce> some;
            GRAFT_UNROLL
            for (int e = 0; e < kAtOnce; ++e) some[e] = sums[s * kGroup + i][group * kGroup + j + e];
            store(at + j, some);
          }
        }
      }
    }
  }

 private:
  static constexpr int kLanesOfWarp = 32;

  static constexpr int kAtOnce = kVector<T> < kGroup ? kVector<T> : kGroup;

  __device__ static void load_group(const T* from, T* to) {
    GRAFT_UNROLL
    for (int i = 0; i < kGroup; i += kAtOnce) {
      const Vector<T, kAtOnce> some = load<kAtOnce>(from + i);
      GRAFT_UNROLL
      for (int e = 0; e < kAtOnce; ++e) to[i + e] = some[e];
    }
  }
};

}  // namespace graft::GRAFT_TARGET
