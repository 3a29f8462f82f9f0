#pragma once

#include "device/language.h"

namespace graft::GRAFT_TARGET {

struct Plus {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

struct Larger {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b || a != a ? a : b;  // a NaN wins, so that it is noticed
  }
};

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kLanes = 32;

/// Combines a value of each lane of a full warp and gives the result to all of them, always in the same order.
template <class T, class Combine>
__device__ T warp_reduce(T value, Combine combine) {
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    value = combine(value, __shfl_xor_sync(kAllLanes, value, distance));
  return value;
}

/// The same for a block of `Threads`, a multiple of 32 and at most 1024. Every thread of the block must call it.
template <int Threads, class T, class Combine>
__device__ T block_reduce(T value, Combine combine) {
  constexpr int kWarps = Threads / kLanes;
  GRAFT_SHARED(T, of_warp, kWarps);
  value = warp_reduce(value, combine);
  const int thread = static_cast<int>(threadIdx.x);
  __syncthreads();  // of_warp may still be read from a call before
  if (thread % kLanes == 0) of_warp[thread / kLanes] = value;
  __syncthreads();
  value = of_warp[0];
  for (int warp = 1; warp < kWarps; ++warp) value = combine(value, of_warp[warp]);
  return value;
}

}  // namespace graft::GRAFT_TARGET
