#pragma once

#include "kernels/kernel.h"

namespace graft::kernels {
namespace cpu {
void attention_forward(Context&, Index heads, double scale, const Operand& q, const Operand& k, const Operand& v,
                       const Operand& y, const Operand& log_sums);
void attention_backward(Context&, Index heads, double scale, const Operand& q, const Operand& k, const Operand& v,
                        const Operand& y, const Operand& log_sums, const Operand& dy, Gradient dq, Gradient dk,
                        Gradient dv);
}  // namespace cpu
namespace vectorized {
decltype(cpu::attention_forward) attention_forward;
Supports<decltype(cpu::attention_forward)>::Function attention_forward_supports;
decltype(cpu::attention_backward) attention_backward;
Supports<decltype(cpu::attention_backward)>::Function attention_backward_supports;
}  // namespace vectorized
GRAFT_DECLARE_GPU(attention_forward)
GRAFT_DECLARE_GPU_LIBRARY(cudnn, attention_forward)
GRAFT_DECLARE_GPU(attention_backward)
GRAFT_DECLARE_GPU_LIBRARY(cudnn, attention_backward)

/// For each head: y = softmax(scale q k^T) v, without ever storing a whole matrix of scores. q, y [N, Lq, heads d] and
/// k, v [N, Lk, heads d] may be channel ranges of wider rows; log_sums [N, heads, Lq] = log(sum over keys of
/// exp(score)).
inline constexpr Kernel<Index, double, const Operand&, const Operand&, const Operand&, const Operand&, const Operand&>
    attention_forward{"attention",
                      {.native = {cpu::attention_forward},
                       .library = {},
                       .vectorized = GRAFT_VECTORIZED(vectorized::attention_forward,
                                                      vectorized::attention_forward_supports, nullptr)},
                      GRAFT_GPU_AND_LIBRARY(cudnn, attention_forward)};
/// The gradients that have a destination. v and y are there only if dq or dk is wanted.
inline constexpr Kernel<Index, double, const Operand&, const Operand&, const Operand&, const Operand&, const Operand&,
                        const Operand&, Gradient, Gradient, Gradient>
    attention_backward{"attention_backward",
                       {.native = {cpu::attention_backward},
                        .library = {},
                        .vectorized = GRAFT_VECTORIZED(vectorized::attention_backward,
                                                       vectorized::attention_backward_supports, nullptr)},
                       GRAFT_GPU_AND_LIBRARY(cudnn, attention_backward)};

}  // namespace graft::kernels
