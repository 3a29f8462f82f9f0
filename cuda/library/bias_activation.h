#pragma once

#include "graft/core/activation.h"
#include "graft/core/context.h"
#include "graft/core/operand.h"

namespace graft::library {

/// y = activation(x + bias) for rows of channels, where a library does not do it with its product. x is y, or f32
/// beside a y of halves; the bias, [C], may be absent.
void bias_activation(const Context& context, const Operand& x, const Operand& bias, Activation activation,
                     const Operand& y);

}  // namespace graft::library
