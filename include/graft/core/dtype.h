#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace graft {

/// Sizes, offsets and axes: always signed, so that differences are.
using Index = std::int64_t;

/// The element types a tensor can have.
enum class DType : std::uint8_t { f32, f64, bf16, f16, i32, i64, u8 };

/// The upper half of a float: 8 bits of exponent, 7 of mantissa. Conversion from float rounds to nearest even.
struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;
  constexpr explicit bfloat16(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<std::uint16_t>(nan ? ((u >> 16) | 0x40u) : rounded);
  }
  constexpr explicit bfloat16(double value) : bfloat16(static_cast<float>(value)) {}
  constexpr operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

/// IEEE 754 binary16. Conversion from float rounds to nearest even; values beyond 65504 become infinite.
struct float16 {
  std::uint16_t bits = 0;

  float16() = default;
  explicit float16(float value);
  explicit float16(double value) : float16(static_cast<float>(value)) {}
  operator float() const;
};

/// Size of one element in bytes.
std::size_t size_of(DType dtype);
/// `f32`, `bf16`, ...
std::string_view name(DType dtype);
/// The inverse of `name`. Throws Error for anything else.
DType dtype_from_name(std::string_view name);
/// f32, f64, bf16 or f16.
bool is_floating(DType dtype);
/// bf16 or f16.
constexpr bool is_half(DType dtype) { return dtype == DType::bf16 || dtype == DType::f16; }
/// The type of parameters that stay exact beside half-precision activations (bias, gamma, beta, statistics): f32 for
/// halves, else the type itself.
constexpr DType exact(DType dtype) { return is_half(dtype) ? DType::f32 : dtype; }

/// The DType of a C++ type, `dtype_of<float> == DType::f32`.
template <class T>
inline constexpr DType dtype_of = [] {
  if constexpr (std::is_same_v<T, float>)
    return DType::f32;
  else if constexpr (std::is_same_v<T, double>)
    return DType::f64;
  else if constexpr (std::is_same_v<T, bfloat16>)
    return DType::bf16;
  else if constexpr (std::is_same_v<T, float16>)
    return DType::f16;
  else if constexpr (std::is_same_v<T, std::int32_t>)
    return DType::i32;
  else if constexpr (std::is_same_v<T, std::int64_t>)
    return DType::i64;
  else {
    static_assert(std::is_same_v<T, std::uint8_t>, "not an element type of a tensor");
    return DType::u8;
  }
}();

/// The type in which sums over T are kept: double for double, float for float and the halves, 64-bit integers for
/// integers.
template <class T>
using Accumulator = std::conditional_t<std::is_same_v<T, double>, double,
                                       std::conditional_t<std::is_integral_v<T>, std::int64_t, float>>;

}  // namespace graft
