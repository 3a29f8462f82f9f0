#pragma once

#include "graft/core/activation.h"
#include "graft/core/binary.h"

#include "kernels/kernel.h"

namespace graft {
namespace kernels::cpu {

void activation_forward(Context&, Activation, const Operand& x, const Operand& y);
void activation_backward(Context&, Activation, const Operand& saved, const Operand& dy, Gradient dx);
void binary_forward(Context&, Binary, const Operand& a, const Operand& b, const Operand& y);
void binary_backward(Context&, Binary, const Operand& a, const Operand& b, const Operand& dy, Gradient da, Gradient db);
void add_into(Context&, const Operand& from, const Operand& to);
void cast(Context&, const Operand& x, const Operand& y, bool accumulate);

}  // namespace kernels::cpu

namespace kernels {

/// y = f(x).
inline constexpr Kernel<Activation, const Operand&, const Operand&> activation_forward{
    "activation", {.native = {cpu::activation_forward}, .library = {}}};
/// dx (+)= dy f'(x), given y where `derivative_from_result`, else x.
inline constexpr Kernel<Activation, const Operand&, const Operand&, Gradient> activation_backward{
    "activation_backward", {.native = {cpu::activation_backward}, .library = {}}};
/// y = a op b with NumPy's broadcasting.
inline constexpr Kernel<Binary, const Operand&, const Operand&, const Operand&> binary_forward{
    "binary", {.native = {cpu::binary_forward}, .library = {}}};
/// da, db (+)= the gradients, summed over the axes that were broadcast. a and b are there only where the function needs
/// them.
inline constexpr Kernel<Binary, const Operand&, const Operand&, const Operand&, Gradient, Gradient> binary_backward{
    "binary_backward", {.native = {cpu::binary_backward}, .library = {}}};
/// to += from, same shape and type.
inline constexpr Kernel<const Operand&, const Operand&> add_into{"add_into",
                                                                 {.native = {cpu::add_into}, .library = {}}};
/// y (+)= x, converted.
inline constexpr Kernel<const Operand&, const Operand&, bool> cast{"cast", {.native = {cpu::cast}, .library = {}}};

}  // namespace kernels
}  // namespace graft
