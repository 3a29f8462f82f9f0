#pragma once

#include "ladder/rungs.h"
#include "runtime/launch.h"

// A ladder is one problem, computed by kernel after kernel, each a better idea than the one before. A rung is a
// comment, which docs/ladders.md shows too, its kernels, and a function that launches them. `in` and `out` are
// contiguous; what they are the ladder's file says. The last rungs call the kernels that graft uses.
#define GRAFT_RUNG(name) void name(Context& context, std::span<const Operand> in, const Operand& out)

namespace graft::ladder::GRAFT_TARGET {

using namespace graft::GRAFT_TARGET;  // NOLINT: every rung is written in that language

inline constexpr int kWarp = 32;

/// How many pieces of `piece` cover `extent`.
inline __host__ __device__ int pieces(Index extent, int piece) {
  return static_cast<int>((extent + piece - 1) / piece);
}

inline dim3 blocks(int x, int y = 1, int z = 1) {
  return dim3(static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(z));
}

inline __device__ int thread_x() { return static_cast<int>(threadIdx.x); }
inline __device__ int thread_y() { return static_cast<int>(threadIdx.y); }
inline __device__ int block_x() { return static_cast<int>(blockIdx.x); }
inline __device__ int block_y() { return static_cast<int>(blockIdx.y); }

}  // namespace graft::ladder::GRAFT_TARGET
