#pragma once

#include "kernels/kernel.h"

namespace graft::kernels {
namespace cpu {
void softmax_forward(Context&, bool log, const Operand& x, const Operand& y);
void softmax_backward(Context&, bool log, const Operand& y, const Operand& dy, Gradient dx);
}  // namespace cpu
namespace onednn {
void softmax_forward(Context&, bool log, const Operand& x, const Operand& y);
bool softmax_forward_supports(const Context&, bool log, const Operand& x, const Operand& y);
void softmax_backward(Context&, bool log, const Operand& y, const Operand& dy, Gradient dx);
bool softmax_backward_supports(const Context&, bool log, const Operand& y, const Operand& dy, Gradient dx);
}  // namespace onednn

GRAFT_DECLARE_GPU(softmax_forward)
GRAFT_DECLARE_GPU(softmax_backward)

/// y = softmax(x) over the last axis, or its logarithm.
inline constexpr Kernel<bool, const Operand&, const Operand&> softmax_forward{
    "softmax",
    {.native = {cpu::softmax_forward},
     .library = GRAFT_ONEDNN(onednn::softmax_forward, onednn::softmax_forward_supports)},
    GRAFT_GPU(softmax_forward)};
/// dx (+)= y (dy - sum of dy y), or dy - exp(y) (sum of dy) for the logarithm.
inline constexpr Kernel<bool, const Operand&, const Operand&, Gradient> softmax_backward{
    "softmax_backward",
    {.native = {cpu::softmax_backward},
     .library = GRAFT_ONEDNN(onednn::softmax_backward, onednn::softmax_backward_supports)},
    GRAFT_GPU(softmax_backward)};

}  // namespace graft::kernels
