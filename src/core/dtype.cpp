#include "graft/core/dtype.h"

#include <array>
#include <cmath>

#include "core/dtype_dispatch.h"
#include "core/format.h"

namespace graft {
namespace {

struct Row {
  std::string_view name;
  std::size_t size;
};

// In the order of the enumeration.
constexpr std::array<Row, 7> kRows{
    {{"f32", 4}, {"f64", 8}, {"bf16", 2}, {"f16", 2}, {"i32", 4}, {"i64", 8}, {"u8", 1}}};

}  // namespace

float16::float16(float value) {
  const auto u = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) {
    bits = static_cast<std::uint16_t>(sign | 0x7e00u);
  } else if (magnitude >= 65520.f) {  // halfway between the largest f16 and the next power of two rounds up to infinity
    bits = static_cast<std::uint16_t>(sign | 0x7c00u);
  } else if (magnitude < 6.103515625e-5f) {  // subnormal: a whole number of 2^-24; nearbyint rounds halves to even
    bits = static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::nearbyint(magnitude * 16777216.f)));
  } else {
    const std::uint32_t m = (u & 0x7fffffffu) - (112u << 23);  // exponent bias 127 to 15
    bits = static_cast<std::uint16_t>(sign | ((m + 0xfffu + ((m >> 13) & 1u)) >> 13));
  }
}

float16::operator float() const {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fu;
  const std::uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    return sign ? -magnitude : magnitude;
  }
  const std::uint32_t wide = exponent == 31 ? 255u : exponent + 112u;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

std::size_t size_of(DType dtype) { return kRows[static_cast<std::size_t>(dtype)].size; }
std::string_view name(DType dtype) { return kRows[static_cast<std::size_t>(dtype)].name; }

DType dtype_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    if (kRows[i].name == name) return static_cast<DType>(i);
  }
  fail("[dtype] no element type is called '{}'", name);
}

void fail_unknown(DType dtype) { fail("[dtype] unknown element type {}", static_cast<int>(dtype)); }

void fail_not_floating(std::string_view what, DType dtype) { fail("[{}] needs a floating type, got {}", what, dtype); }

bool is_floating(DType dtype) { return dtype <= DType::f16; }

}  // namespace graft
