#pragma once

#include <string_view>

#include "graft/core/dtype.h"

namespace graft {

/// A type as a value, for generic lambdas: `[&]<class T>(Type<T>) { ... }`.
template <class T>
struct Type {
  using type = T;
};

[[noreturn]] void fail_unknown(DType dtype);
[[noreturn]] void fail_not_floating(std::string_view what, DType dtype);

/// Calls `body(Type<T>{})` with the C++ type of a dtype.
template <class Body>
decltype(auto) dispatch(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f32:
      return body(Type<float>{});
    case DType::f64:
      return body(Type<double>{});
    case DType::bf16:
      return body(Type<bfloat16>{});
    case DType::f16:
      return body(Type<float16>{});
    case DType::i32:
      return body(Type<std::int32_t>{});
    case DType::i64:
      return body(Type<std::int64_t>{});
    case DType::u8:
      return body(Type<std::uint8_t>{});
  }
  fail_unknown(dtype);
}

/// The same for floating types only; `what` is named in the error for the others.
template <class Body>
decltype(auto) dispatch_floating(std::string_view what, DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f32:
      return body(Type<float>{});
    case DType::f64:
      return body(Type<double>{});
    case DType::bf16:
      return body(Type<bfloat16>{});
    case DType::f16:
      return body(Type<float16>{});
    default:
      fail_not_floating(what, dtype);
  }
}

/// Calls `body(Type<T>{}, Type<W>{})` with the types of activations and of their weights, which are f32 masters beside
/// halves or of the same type.
template <class Body>
void dispatch_weighted(std::string_view what, DType activations, DType weights, Body&& body) {
  dispatch_floating(what, activations, [&]<class T>(Type<T> type) {
    if (weights == activations)
      body(type, Type<T>{});
    else
      body(type, Type<Accumulator<T>>{});
  });
}

/// static_cast between any two element types, the halves by way of float.
template <class To, class From>
constexpr To convert(From value) {
  constexpr bool half = std::is_same_v<From, bfloat16> || std::is_same_v<From, float16>;
  if constexpr (std::is_same_v<To, From>)
    return value;
  else if constexpr (half)
    return static_cast<To>(static_cast<float>(value));
  else if constexpr (std::is_same_v<To, bfloat16> || std::is_same_v<To, float16>)
    return To(static_cast<float>(value));
  else
    return static_cast<To>(value);
}

}  // namespace graft
