#pragma once

#include <cmath>

#include "device/async_copy.h"
#include "device/heads.h"
#include "device/mma.h"
#include "device/reduce.h"
#include "device/unroll.h"

// What a block of warps makes attention of on tensor cores: tiles of heads in shared memory, and products of them whose
// sums stay where mma.sync leaves them. A warp has whole rows of scores, 16 to a piece, of which lane l holds those of
// rows g and g + 8 in columns 8 j + t and 8 j + t + 1, with g = l / 4 and t = 2 (l % 4): what the four lanes of a row
// share is two shuffles away, and two neighbouring pieces of scores, rounded, are a left factor as they lie.
namespace graft::GRAFT_TARGET::attention::halves {

constexpr int kWarps = 4, kThreads = kWarps * kLanes;

/// `Rows` rows of a head of up to `Depth` channels. The 16 bytes between rows put the eight that ldmatrix reads
/// together into different banks.
template <class T, int Rows, int Depth>
struct Tile {
  static constexpr int kRows = Rows, kDepth = Depth, kPitch = Depth + kVector<T>, kElements = Rows * kPitch;

  /// Asks for the rows from `first` on, each thread of the block for its part; zeros arrive past the head's end. One
  /// round after the other, for addresses of several would take registers that the sums need.
  __device__ static void copy(T* tile, const Head<T>& head, int first) {
    constexpr int kAcross = Depth / kVector<T>;
    GRAFT_ROLLED
    for (int i = static_cast<int>(threadIdx.x); i < Rows * kAcross; i += kThreads) {
      const int row = first + i / kAcross, channel = i % kAcross * kVector<T>;
      const bool inside = row < head.length && channel < head.depth;
      copy_async<16>(tile + i / kAcross * kPitch + channel, inside ? head.row(row) + channel : head.data, inside);
    }
  }

  /// The left factor of 16 rows and 16 channels.
  __device__ static void left(const T* tile, int row, int channel, std::uint32_t (&to)[4]) {
    load_matrices<false>(tile + (row + matrix() % 2 * 8 + line()) * kPitch + channel + matrix() / 2 * 8, to);
  }
  /// Two right factors: 16 rows as columns, 16 channels as depth.
  __device__ static void transposed(const T* tile, int row, int channel, std::uint32_t (&to)[4]) {
    load_matrices<false>(tile + (row + matrix() / 2 * 8 + line()) * kPitch + channel + matrix() % 2 * 8, to);
  }
  /// Two right factors: 16 channels as columns, 16 rows as depth.
  __device__ static void right(const T* tile, int row, int channel, std::uint32_t (&to)[4]) {
    load_matrices<true>(tile + (row + matrix() % 2 * 8 + line()) * kPitch + channel + matrix() / 2 * 8, to);
  }

 private:
  __device__ static int matrix() { return static_cast<int>(threadIdx.x) % kLanes / 8; }
  __device__ static int line() { return static_cast<int>(threadIdx.x) % 8; }
};

/// A warp's sums: `Down` pieces of 16 rows, and a piece of 8 for each 8 columns.
template <int Down, int Columns>
using Sums = float[Down][Columns / 8][4];

/// Two numbers rounded to T, the first in the low bits.
template <class T>
__device__ std::uint32_t pair(float first, float second) {
#if defined(__CUDA_ARCH__)
  std::uint32_t both;
  if constexpr (std::is_same_v<T, bfloat16>)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
#else
  return std::uint32_t{narrow<T>(first).bits} | std::uint32_t{narrow<T>(second).bits} << 16;
#endif
}

template <class T>
__device__ void multiply_add_two(float (&first)[4], float (&second)[4], const std::uint32_t (&left)[4],
                                 const std::uint32_t (&right)[4]) {
  multiply_add<T>(first, left, right[0], right[1]);
  multiply_add<T>(second, left, right[2], right[3]);
}

/// scores = own other^T, of this warp's rows from `row` on with all of `other`.
template <class Own, class Other, class T, int Down>
__device__ void multiply_rows(const T* own, int row, const T* other, Sums<Down, Other::kRows>& scores) {
  GRAFT_UNROLL
  for (int i = 0; i < Down; ++i) {
    GRAFT_UNROLL
    for (int j = 0; j < Other::kRows / 8; ++j) {
      for (float& score : scores[i][j]) score = 0;
    }
  }
  GRAFT_UNROLL
  for (int k = 0; k < Own::kDepth; k += 16) {
    std::uint32_t left[Down][4], right[4];
    GRAFT_UNROLL
    for (int i = 0; i < Down; ++i) Own::left(own, row + i * 16, k, left[i]);
    GRAFT_UNROLL
    for (int j = 0; j < Other::kRows / 8; j += 2) {
      Other::transposed(other, j * 8, k, right);
      GRAFT_UNROLL
      for (int i = 0; i < Down; ++i) multiply_add_two<T>(scores[i][j], scores[i][j + 1], left[i], right);
    }
  }
}

/// products += weights other, with the weights of all rows of `other` rounded to T.
template <class Other, class T, int Down>
__device__ void add_weighted(const Sums<Down, Other::kRows>& weights, const T* other,
                             Sums<Down, Other::kDepth>& products) {
  GRAFT_UNROLL
  for (int k = 0; k < Other::kRows / 8; k += 2) {
    std::uint32_t left[Down][4], right[4];
    GRAFT_UNROLL
    for (int i = 0; i < Down; ++i) {
      const float(&first)[4] = weights[i][k], (&second)[4] = weights[i][k + 1];
      left[i][0] = pair<T>(first[0], first[1]);
      left[i][1] = pair<T>(first[2], first[3]);
      left[i][2] = pair<T>(second[0], second[1]);
      left[i][3] = pair<T>(second[2], second[3]);
    }
    GRAFT_UNROLL
    for (int c = 0; c < Other::kDepth / 8; c += 2) {
      Other::right(other, k * 8, c * 8, right);
      GRAFT_UNROLL
      for (int i = 0; i < Down; ++i) multiply_add_two<T>(products[i][c], products[i][c + 1], left[i], right);
    }
  }
}

/// 2^x by the one instruction that a GPU has for it, off by 2 units of the last place at most; 0 below 2^-126.
__device__ inline float power_of_two(float x) {
#if defined(__CUDA_ARCH__)
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
#else
  return exp2f(x);
#endif
}

/// Combines a value of each of the four lanes that share a row.
template <class Combine>
__device__ float row_reduce(float value, Combine combine) {
  value = combine(value, __shfl_xor_sync(kAllLanes, value, 1));
  return combine(value, __shfl_xor_sync(kAllLanes, value, 2));
}

/// Writes a warp's products, or adds them, to its rows from `row` on.
template <class T, int Down, int Depth>
__device__ void put_products(const float (&products)[Down][Depth / 8][4], const Head<T>& to, int row, bool accumulate) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  GRAFT_UNROLL
  for (int i = 0; i < Down; ++i) {
    GRAFT_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int r = row + i * 16 + half * 8 + lane / 4;
      if (r >= to.length) continue;
      GRAFT_UNROLL
      for (int c = 0; c < Depth / 8; ++c) {
        const float two[] = {products[i][c][half * 2], products[i][c][half * 2 + 1]};
        if (c * 8 < to.depth) put<2>(to.row(r) + c * 8 + lane % 4 * 2, two, accumulate);
      }
    }
  }
}

}  // namespace graft::GRAFT_TARGET::attention::halves
