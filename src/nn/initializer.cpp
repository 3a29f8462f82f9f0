#include "graft/nn/initializer.h"

#include <array>
#include <cmath>

#include "core/format.h"

namespace graft::nn {
namespace {

// In the order of the enumeration.
constexpr std::array<std::string_view, 8> kNames{"constant",       "normal",    "truncated_normal", "uniform",
                                                 "glorot_uniform", "he_normal", "he_uniform",       "lecun_normal"};

// The deviation of a standard normal cut off at two deviations: fan-scaled initialisers divide by it, as Keras does, so
// that the variance is the one asked for.
constexpr double kTruncatedDeviation = 0.87962566103423978;

double truncated(Generator& generator) {
  for (;;) {
    const double z = generator.normal();
    if (std::fabs(z) < 2) return z;
  }
}

}  // namespace

std::string_view name(Initializer::Kind kind) { return kNames[static_cast<std::size_t>(kind)]; }

Initializer::Kind initializer_from_name(std::string_view text) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == text) return static_cast<Initializer::Kind>(i);
  }
  fail("[initializer] expected one of {}, got '{}'", fmt::join(kNames, ", "), text);
}

Tensor initial_values(const Shape& shape, Initializer initializer, Fan fan, Generator generator) {
  using Kind = Initializer::Kind;
  Tensor tensor = Tensor::empty(shape);
  const auto in = static_cast<double>(std::max<Index>(fan.in, 1));
  const auto both = static_cast<double>(std::max<Index>(fan.in + fan.out, 1));
  const auto draw = [&](auto&& one) {
    float* values = tensor.mutable_data<float>();
    for (Index i = 0; i < tensor.elements(); ++i) values[i] = static_cast<float>(one());
  };
  const auto uniform = [&](double bound) { draw([&] { return bound * (2 * generator.uniform() - 1); }); };
  const auto truncated_normal = [&](double deviation) { draw([&] { return deviation * truncated(generator); }); };
  switch (initializer.kind) {
    case Kind::constant:
      tensor.fill(initializer.scale);
      break;
    case Kind::normal:
      draw([&] { return initializer.scale * generator.normal(); });
      break;
    case Kind::truncated_normal:
      truncated_normal(initializer.scale);
      break;
    case Kind::uniform:
      uniform(initializer.scale);
      break;
    case Kind::glorot_uniform:
      uniform(std::sqrt(6 / both));
      break;
    case Kind::he_normal:
      truncated_normal(std::sqrt(2 / in) / kTruncatedDeviation);
      break;
    case Kind::he_uniform:
      uniform(std::sqrt(6 / in));
      break;
    case Kind::lecun_normal:
      truncated_normal(std::sqrt(1 / in) / kTruncatedDeviation);
      break;
  }
  return tensor;
}

}  // namespace graft::nn
