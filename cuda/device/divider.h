#pragma once

#include <bit>
#include <cstdint>

#include "graft/core/dtype.h"

#include "device/language.h"

namespace graft::GRAFT_TARGET {

/// Division of 0 .. 2^31-1 by a number from 1 to 2^31-1 that the host knows: a multiplication and a shift instead of
/// the thirty instructions of a GPU's division (Granlund and Montgomery, "Division by invariant integers using
/// multiplication", 1994).
class Divider {
 public:
  Divider() = default;
  explicit Divider(Index divisor)
      : divisor_(static_cast<std::uint32_t>(divisor)),
        shift_(static_cast<std::uint32_t>(std::bit_width(divisor_ - 1u))),
        multiplier_(static_cast<std::uint32_t>(((((std::uint64_t{1} << shift_) - divisor_) << 32) / divisor_) + 1)) {}

  __host__ __device__ int divisor() const { return static_cast<int>(divisor_); }
  __device__ int quotient(int n) const {
    const auto dividend = static_cast<std::uint32_t>(n);
    const auto high = static_cast<std::uint32_t>(static_cast<std::uint64_t>(dividend) * multiplier_ >> 32);
    return static_cast<int>((high + dividend) >> shift_);
  }
  __device__ int remainder(int n, int quotient) const { return n - quotient * static_cast<int>(divisor_); }

 private:
  std::uint32_t divisor_ = 1, shift_ = 0, multiplier_ = 1;
};

}  // namespace graft::GRAFT_TARGET
