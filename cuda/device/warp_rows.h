#pragma once

#include "device/reduce.h"
#include "runtime/launch.h"

// Kernels in which a warp has a row to itself: its lanes take neighbouring elements and meet in warp_reduce.
namespace graft::GRAFT_TARGET {

constexpr int kWarpsABlock = 4;  // small enough that few rows spread over many multiprocessors

inline LaunchShape a_warp_each(Index rows) {
  return {.grid = dim3(static_cast<unsigned>((rows + kWarpsABlock - 1) / kWarpsABlock)),
          .block = dim3(kWarpsABlock * kLanes)};
}

/// The row of this warp, which may be past the last one: then the whole warp has nothing to do.
inline __device__ Index row_of_warp() { return static_cast<Index>(blockIdx.x) * kWarpsABlock + threadIdx.x / kLanes; }
inline __device__ int lane_of_thread() { return static_cast<int>(threadIdx.x) % kLanes; }

}  // namespace graft::GRAFT_TARGET
