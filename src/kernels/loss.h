#pragma once

#include "kernels/kernel.h"

namespace graft::kernels {
namespace cpu {
void softmax_cross_entropy_forward(Context&, double smoothing, const Operand& logits, const Operand& labels,
                                   const Operand& weights, const Operand& loss, const Operand& log_sums);
void softmax_cross_entropy_backward(Context&, double smoothing, const Operand& logits, const Operand& labels,
                                    const Operand& weights, const Operand& log_sums, const Operand& dloss,
                                    Gradient dlogits);
void binary_cross_entropy_forward(Context&, const Operand& logits, const Operand& targets, const Operand& weights,
                                  const Operand& loss);
void binary_cross_entropy_backward(Context&, const Operand& logits, const Operand& targets, const Operand& weights,
                                   const Operand& dloss, Gradient dlogits, Gradient dtargets);
}  // namespace cpu

GRAFT_DECLARE_GPU(softmax_cross_entropy_forward)
GRAFT_DECLARE_GPU(softmax_cross_entropy_backward)
GRAFT_DECLARE_GPU(binary_cross_entropy_forward)
GRAFT_DECLARE_GPU(binary_cross_entropy_backward)

/// loss = mean over the rows, weighted, of the cross-entropy between the smoothed label and softmax(logits); log_sums
/// [N] = log(sum of exp(logits)). logits [N, C], labels [N] i32 or i64, weights [N] or absent. A label outside 0 .. C-1
/// in a row whose weight is not 0 throws Error on the CPU; a device, which cannot throw, makes loss and log_sum NaN.
inline constexpr Kernel<double, const Operand&, const Operand&, const Operand&, const Operand&, const Operand&>
    softmax_cross_entropy_forward{"softmax_cross_entropy",
                                  {.native = {cpu::softmax_cross_entropy_forward}, .library = {}},
                                  GRAFT_GPU(softmax_cross_entropy_forward)};
/// dlogits (+)= dloss weight / (sum of weights) (softmax(logits) - smoothed label).
inline constexpr Kernel<double, const Operand&, const Operand&, const Operand&, const Operand&, const Operand&,
                        Gradient>
    softmax_cross_entropy_backward{"softmax_cross_entropy_backward",
                                   {.native = {cpu::softmax_cross_entropy_backward}, .library = {}},
                                   GRAFT_GPU(softmax_cross_entropy_backward)};
/// loss = mean over the elements, weighted by row, of log(1 + exp(x)) - x t. logits and targets [N, ...], weights [N]
/// or absent.
inline constexpr Kernel<const Operand&, const Operand&, const Operand&, const Operand&> binary_cross_entropy_forward{
    "binary_cross_entropy",
    {.native = {cpu::binary_cross_entropy_forward}, .library = {}},
    GRAFT_GPU(binary_cross_entropy_forward)};
/// dlogits (+)= dloss weight / (sum of weights) (sigmoid(x) - t), dtargets (+)= the same with -x.
inline constexpr Kernel<const Operand&, const Operand&, const Operand&, const Operand&, Gradient, Gradient>
    binary_cross_entropy_backward{"binary_cross_entropy_backward",
                                  {.native = {cpu::binary_cross_entropy_backward}, .library = {}},
                                  GRAFT_GPU(binary_cross_entropy_backward)};

}  // namespace graft::kernels
