#include "graft/core/activation.h"

#include <array>

#include "core/format.h"

namespace graft {
namespace {

// In the order of the enumeration.
constexpr std::array<std::string_view, 8> kNames{"linear", "relu", "relu6",     "sigmoid",
                                                 "tanh",   "gelu", "gelu_tanh", "silu"};

}  // namespace

std::string_view name(Activation activation) { return kNames[static_cast<std::size_t>(activation)]; }

Activation activation_from_name(std::string_view text) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == text) return static_cast<Activation>(i);
  }
  fail("[activation] expected one of {}, got '{}'", fmt::join(kNames, ", "), text);
}

}  // namespace graft
