#pragma once

#include <string_view>

#include "graft/core/generator.h"
#include "graft/core/tensor.h"

namespace graft::nn {

/// How a parameter gets its first values. `scale` is the value of `constant`, the deviation of `normal` and
/// `truncated_normal`, the bound of `uniform`.
struct Initializer {
  enum class Kind : std::uint8_t {
    constant,
    normal,
    truncated_normal,  ///< drawn again beyond two deviations
    uniform,           ///< in [-scale, scale)
    glorot_uniform,    ///< bound sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010), Keras's default
    he_normal,         ///< truncated normal of variance 2 / fan_in (He et al. 2015)
    he_uniform,        ///< bound sqrt(6 / fan_in)
    lecun_normal,      ///< truncated normal of variance 1 / fan_in
  };

  Kind kind = Kind::glorot_uniform;
  double scale = 0;

  friend bool operator==(const Initializer&, const Initializer&) = default;
};

inline constexpr Initializer kZeros{Initializer::Kind::constant, 0};
inline constexpr Initializer kOnes{Initializer::Kind::constant, 1};
inline constexpr Initializer kGlorotUniform{Initializer::Kind::glorot_uniform};
inline constexpr Initializer kHeNormal{Initializer::Kind::he_normal};
inline constexpr Initializer kHeUniform{Initializer::Kind::he_uniform};
inline constexpr Initializer kLecunNormal{Initializer::Kind::lecun_normal};
constexpr Initializer truncated_normal(double deviation) { return {Initializer::Kind::truncated_normal, deviation}; }

std::string_view name(Initializer::Kind kind);
Initializer::Kind initializer_from_name(std::string_view name);

/// How many inputs reach an output of a weight, and how many outputs an input.
struct Fan {
  Index in = 1;
  Index out = 1;
};

/// An f32 tensor of first values.
Tensor initial_values(const Shape& shape, Initializer initializer, Fan fan, Generator generator);

}  // namespace graft::nn
