#pragma once

#include "device/async_copy.h"
#include "device/operands.h"
#include "device/unroll.h"

namespace graft::GRAFT_TARGET {

/// A tile of a factor in shared memory: lines of one side's elements, with some space between the lines so that the
/// threads of a warp find what they read together in different banks.
template <class T, int Rows, int Depth, bool DepthInner, int Space>
struct TileLayout {
  static constexpr bool kDepthInner = DepthInner;
  static constexpr int kPitch = (DepthInner ? Depth : Rows) + Space;
  static constexpr int kElements = (DepthInner ? Rows : Depth) * kPitch;

  __device__ static int at(int row, int depth) { return DepthInner ? row * kPitch + depth : depth * kPitch + row; }
};

/// Brings tiles of a factor into shared memory, V elements a copy. A copy lies wholly inside or outside: the host takes
/// V = 1 where channels or extents are no multiples of it.
template <class Source, class Layout, int Rows, int Depth, int Threads, int V>
class TileReader {
  using T = typename Source::Element;
  static constexpr bool kDepthInner = Source::kDepthInner;
  static constexpr int kAcross = (kDepthInner ? Depth : Rows) / V;  // copies along the inner side
  static_assert(Threads % kAcross == 0, "a thread keeps its place along the inner side");
  static_assert(V == 1 || Layout::kDepthInner == kDepthInner, "a vector stays one in shared memory");

 public:
  /// `places` is shared memory for `Rows` of them; the block meets at a barrier between this and `read`.
  __device__ TileReader(const Source& from, int first_row, Place* places)
      : from_(from), places_(places), inner_(static_cast<int>(threadIdx.x) % kAcross * V) {
    if constexpr (kDepthInner) {
      for (int r = static_cast<int>(threadIdx.x); r < Rows; r += Threads) places[r] = from.row(first_row + r);
    } else {
      row_ = from.row(first_row + inner_);
    }
  }

  /// Starts to copy depths first_depth .. first_depth + Depth - 1 of the matrix that begins at `base`.
  __device__ void read(Index base, int first_depth, T* tile) const {
    const T* data = from_.data + base;
    const int outer = static_cast<int>(threadIdx.x) / kAcross;
    if constexpr (kDepthInner) {
      const Place depth = from_.at_depth(first_depth + inner_);
      GRAFT_UNROLL
      for (int r = 0; r < Rows; r += Threads / kAcross) {
        if (Rows % (Threads / kAcross) != 0 && r + outer >= Rows) break;
        copy(data, places_[r + outer], depth, tile + Layout::at(r + outer, inner_));
      }
    } else {
      GRAFT_UNROLL
      for (int k = 0; k < Depth; k += Threads / kAcross) {
        if (Depth % (Threads / kAcross) != 0 && k + outer >= Depth) break;
        copy(data, row_, from_.at_depth(first_depth + k + outer), tile + Layout::at(inner_, k + outer));
      }
    }
  }

 private:
  __device__ void copy(const T* data, const Place& row, const Place& depth, T* to) const {
    const bool inside = from_.inside(row, depth);
    const T* at = data + (inside ? row.offset + depth.offset : 0);
    if constexpr (sizeof(T) * V >= 4)
      copy_async<static_cast<int>(sizeof(T)) * V>(to, at, inside);
    else
      *to = inside ? *at : T{};
  }

  const Source& from_;
  const Place* places_;
  int inner_;
  Place row_{};
};

}  // namespace graft::GRAFT_TARGET
