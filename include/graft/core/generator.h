#pragma once

#include <array>
#include <cstdint>

#include "graft/core/dtype.h"

namespace graft {

/// Philox 4x32 with ten rounds (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011): four random
/// words from a key and a counter, with no state. The same (seed, counter) gives the same words on every device and for
/// every number of threads.
constexpr std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t counter, std::uint64_t stream = 0) {
  std::array<std::uint32_t, 4> c{static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32),
                                 static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)};
  auto key0 = static_cast<std::uint32_t>(seed);
  auto key1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53} * c[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ key0, static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ key1, static_cast<std::uint32_t>(p0)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return c;
}

/// A position in a Philox sequence.
struct Generator {
  std::uint64_t seed = 0;
  std::uint64_t offset = 0;

  /// Claims `count` counters and returns the first: kernels read `philox(seed, first + i)`.
  std::uint64_t claim(std::uint64_t count) {
    const std::uint64_t first = offset;
    offset += count;
    return first;
  }
  /// A generator of its own for a purpose, e.g. one a layer or an epoch: independent of the order in which others are
  /// asked.
  Generator split(std::uint64_t purpose) const;

  /// The next 64 random bits.
  std::uint64_t next();
  /// Uniform in [0, 1).
  double uniform();
  /// Uniform in 0 .. bound-1. `bound` > 0.
  Index below(Index bound);
  /// Standard normal (Box-Muller).
  double normal();
};

/// A word to [0, 1) in steps of 2^-24, exact in f32.
constexpr float to_uniform(std::uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

}  // namespace graft
