#pragma once

#include "kernels/kernel.h"

namespace graft::kernels {
namespace cpu {
void dropout_forward(Context&, double rate, const Operand& x, const Operand& y, const Operand& state);
void dropout_backward(Context&, double rate, const Operand& state, const Operand& dy, Gradient dx);
}  // namespace cpu

GRAFT_DECLARE_GPU(dropout_forward)
GRAFT_DECLARE_GPU(dropout_backward)

/// y = x / (1 - rate) where the random number of the element is at least `rate`, else 0. Element i draws word i % 4 of
/// philox(seed, first + i / 4), whose counters are claimed from the context's generator (counted from
/// Context::random_state where that is set); state, i64 [2], receives seed and first.
inline constexpr Kernel<double, const Operand&, const Operand&, const Operand&> dropout_forward{
    "dropout", {.native = {cpu::dropout_forward}, .library = {}}, GRAFT_GPU(dropout_forward)};
/// dx (+)= dy / (1 - rate) for the elements that forward kept, drawn again from the state.
inline constexpr Kernel<double, const Operand&, const Operand&, Gradient> dropout_backward{
    "dropout_backward", {.native = {cpu::dropout_backward}, .library = {}}, GRAFT_GPU(dropout_backward)};

}  // namespace graft::kernels
