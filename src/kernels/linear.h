#pragma once

#include "graft/core/activation.h"

#include "kernels/kernel.h"

namespace graft::kernels {
namespace cpu {
void linear_forward(Context&, const Operand& x, const Operand& w, const Operand& bias, Activation, const Operand& y);
void linear_backward_input(Context&, const Operand& dz, const Operand& w, Gradient dx);
void linear_backward_weight(Context&, const Operand& x, const Operand& dz, Gradient dw);
}  // namespace cpu

/// y = activation(x w^T + bias). x [..., in], w [out, in], bias [out] or absent.
inline constexpr Kernel<const Operand&, const Operand&, const Operand&, Activation, const Operand&> linear_forward{
    "linear", {.native = {cpu::linear_forward}, .library = {}}};
/// dx (+)= dz w.
inline constexpr Kernel<const Operand&, const Operand&, Gradient> linear_backward_input{
    "linear_backward_input", {.native = {cpu::linear_backward_input}, .library = {}}};
/// dw (+)= dz^T x. dw has the type of w.
inline constexpr Kernel<const Operand&, const Operand&, Gradient> linear_backward_weight{
    "linear_backward_weight", {.native = {cpu::linear_backward_weight}, .library = {}}};

}  // namespace graft::kernels
