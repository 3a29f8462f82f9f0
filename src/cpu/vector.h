#pragma once

#include <cstring>

#include "cpu/vector_ops.h"

// Sixteen numbers side by side, which the compiler keeps in registers: what a plain array of running sums does not
// reach with g++. On a machine with narrower registers one Floats is two or four of them. Functions take references,
// because passing such a value would depend on the instruction set.
namespace graft::cpu {

inline constexpr Index kLanes = 16;

using Floats [[gnu::vector_size(64)]] = float;
/// Half as many: g++ compares wider ones a number at a time.
using HalfFloats [[gnu::vector_size(32)]] = float;

template <class V>
GRAFT_INLINE inline void load(V& v, const float* from) {
  std::memcpy(&v, from, sizeof(v));
}
GRAFT_INLINE inline void load(Floats& v, const bfloat16* from) {
  using Shorts [[gnu::vector_size(32)]] = std::uint16_t;
  using Words [[gnu::vector_size(64)]] = std::uint32_t;
  Shorts shorts;
  std::memcpy(&shorts, from, sizeof(shorts));
  const Words words = __builtin_convertvector(shorts, Words) << 16;
  std::memcpy(&v, &words, sizeof(v));
}
GRAFT_INLINE inline void load(HalfFloats& v, const bfloat16* from) {
  using Shorts [[gnu::vector_size(16)]] = std::uint16_t;
  using Words [[gnu::vector_size(32)]] = std::uint32_t;
  Shorts shorts;
  std::memcpy(&shorts, from, sizeof(shorts));
  const Words words = __builtin_convertvector(shorts, Words) << 16;
  std::memcpy(&v, &words, sizeof(v));
}
template <class V>
GRAFT_INLINE inline void store(float* to, const V& v) {
  std::memcpy(to, &v, sizeof(v));
}

/// The types whose sums are kept in Floats.
template <class T>
inline constexpr bool has_lanes = std::is_same_v<T, float> || std::is_same_v<T, bfloat16>;

}  // namespace graft::cpu
