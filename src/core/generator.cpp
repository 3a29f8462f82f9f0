#include "graft/core/generator.h"

#include <cmath>
#include <numbers>

namespace graft {

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
