#pragma once

#include <cstdint>
#include <string_view>

namespace graft {

/// A function of one number, applied to each element.
enum class Activation : std::uint8_t {
  linear,   ///< x
  relu,     ///< max(x, 0)
  relu6,    ///< min(max(x, 0), 6)
  sigmoid,  ///< 1 / (1 + exp(-x))
  tanh,
  gelu,       ///< x Phi(x), with the error function
  gelu_tanh,  ///< x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2
  silu,       ///< x sigmoid(x), also called swish
};

std::string_view name(Activation activation);
/// Reads the names above. Throws Error for anything else.
Activation activation_from_name(std::string_view name);
/// True if the derivative can be computed from the result alone: such an activation can be fused into the op before it.
constexpr bool derivative_from_result(Activation activation) { return activation <= Activation::tanh; }

}  // namespace graft
