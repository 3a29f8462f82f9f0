#pragma once

#include <cstdint>
#include <string_view>

namespace graft {

/// Functions of two numbers, applied to elements after broadcasting.
enum class Binary : std::uint8_t { add, subtract, multiply, divide };

constexpr std::string_view name(Binary function) {
  switch (function) {
    case Binary::add:
      return "add";
    case Binary::subtract:
      return "subtract";
    case Binary::multiply:
      return "multiply";
    case Binary::divide:
      return "divide";
  }
  return "";
}

}  // namespace graft
