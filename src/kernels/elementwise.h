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

GRAFT_DECLARE_GPU(activation_forward)
GRAFT_DECLARE_GPU(activation_backward)
GRAFT_DECLARE_GPU(binary_forward)
GRAFT_DECLARE_GPU(binary_backward)
GRAFT_DECLARE_GPU(add_into)
GRAFT_DECLARE_GPU(cast)

/// y = f(x).
inline constexpr Kernel<Activation, const Operand&, const Operand&> activation_forward{
    "activation", {.native = {cpu::activation_forward}, .library = {}}, GRAFT_GPU(activation_forward)};
/// dx (+)= dy f'(x), given y where `derivative_from_result`, else x.
inline constexpr Kernel<Activation, const Operand&, const Operand&, Gradient> activation_backward{
    "activation_backward", {.native = {cpu::activation_backward}, .library = {}}, GRAFT_GPU(activation_backward)};
/// y = a op b with NumPy's broadcasting.
inline constexpr Kernel<Binary, const Operand&, const Operand&, const Operand&> binary_forward{
    "binary", {.native = {cpu::binary_forward}, .library = {}}, GRAFT_GPU(binary_forward)};
/// da, db (+)= the gradients, summed over the axes that were broadcast. a and b are there only where the function needs
/// them.
inline constexpr Kernel<Binary, const Operand&, const Operand&, const Operand&, Gradient, Gradient> binary_backward{
    "binary_backward", {.native = {cpu::binary_backward}, .library = {}}, GRAFT_GPU(binary_backward)};
/// to += from, same shape and type.
inline constexpr Kernel<const Operand&, const Operand&> add_into{
    "add_into", {.native = {cpu::add_into}, .library = {}}, GRAFT_GPU(add_into)};
/// y (+)= x, converted.
inline constexpr Kernel<const Operand&, const Operand&, bool> cast{
    "cast", {.native = {cpu::cast}, .library = {}}, GRAFT_GPU(cast)};

}  // namespace kernels
}  // namespace graft
