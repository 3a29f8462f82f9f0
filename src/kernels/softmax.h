#pragma once

#include "kernels/kernel.h"

namespace graft::kernels {
namespace cpu {
void softmax_forward(Context&, bool log, const Operand& x, const Operand& y);
void softmax_backward(Context&, bool log, const Operand& y, const Operand& dy, Gradient dx);
}  // namespace cpu

/// y = softmax(x) over the last axis, or its logarithm.
inline constexpr Kernel<bool, const Operand&, const Operand&> softmax_forward{
    "softmax", {.native = {cpu::softmax_forward}, .library = {}}};
/// dx (+)= y (dy - sum of dy y), or dy - exp(y) (sum of dy) for the logarithm.
inline constexpr Kernel<bool, const Operand&, const Operand&, Gradient> softmax_backward{
    "softmax_backward", {.native = {cpu::softmax_backward}, .library = {}}};

}  // namespace graft::kernels
