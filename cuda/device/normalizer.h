#pragma once

#include <cmath>

#include "device/reduce.h"

namespace graft::GRAFT_TARGET {

template <class S>
constexpr S kLowest = std::is_same_v<S, double> ? S(-1.7976931348623157e308) : S(-3.4028234663852886e38f);

/// The largest of some numbers and the sum of exp(x - largest) over them: what a softmax needs, in one pass. Two of
/// them combine into that of both (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018).
template <class S>
struct Normalizer {
  S largest = kLowest<S>, sum = 0;

  __device__ void add(S x) {
    if (x > largest) {
      sum = sum * std::exp(largest - x) + S(1);
      largest = x;
    } else {
      sum += std::exp(x - largest);
    }
  }
  // Who has no number holds the lowest one and a sum of 0, so that no difference of infinities comes up.
  __device__ void add(const Normalizer& other) {
    const S both = other.largest > largest ? other.largest : largest;
    sum = sum * std::exp(largest - both) + other.sum * std::exp(other.largest - both);
    largest = both;
  }
};

/// Of the numbers of all lanes of a full warp, for each of them.
template <class S>
__device__ Normalizer<S> warp_normalizer(Normalizer<S> mine) {
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    const Normalizer<S> other{__shfl_xor_sync(kAllLanes, mine.largest, distance),
                              __shfl_xor_sync(kAllLanes, mine.sum, distance)};
    mine.add(other);
  }
  return mine;
}

}  // namespace graft::GRAFT_TARGET
