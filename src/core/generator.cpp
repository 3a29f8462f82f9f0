#include "graft/core/generator.h"

#include <cmath>
#include <numbers>

namespace graft {

std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t counter, std::uint64_t stream) {
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

Generator Generator::split(std::uint64_t purpose) const {
  const auto words = philox(seed, purpose, 0x73706c6974ull);  // a stream that drawing never uses
  return {.seed = (std::uint64_t{words[1]} << 32) | words[0], .offset = 0};
}

std::uint64_t Generator::next() {
  const auto words = philox(seed, claim(1));
  return (std::uint64_t{words[1]} << 32) | words[0];
}

double Generator::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

// The bias is below bound / 2^53.
Index Generator::below(Index bound) { return static_cast<Index>(uniform() * static_cast<double>(bound)); }

double Generator::normal() {
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

}  // namespace graft
