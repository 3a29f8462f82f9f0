#pragma once

#include "kernels/kernel.h"

namespace graft::kernels {
namespace cpu {
void matmul(Context&, const Operand& a, const Operand& b, bool transpose_a, bool transpose_b, Gradient y);
}  // namespace cpu
namespace onednn {
void matmul(Context&, const Operand& a, const Operand& b, bool transpose_a, bool transpose_b, Gradient y);
bool matmul_supports(const Context&, const Operand& a, const Operand& b, bool transpose_a, bool transpose_b,
                     Gradient y);
}  // namespace onednn
GRAFT_DECLARE_GPU(matmul)
GRAFT_DECLARE_GPU_LIBRARY(cublas, matmul)

/// y (+)= a b for matrices in the last two axes, each transposed first if asked. The axes before, the same number in
/// all three, are a batch: one of extent 1 in a or b is repeated, and over one of extent 1 in y the products are
/// summed, so this is also the gradient of a repeated operand.
inline constexpr Kernel<const Operand&, const Operand&, bool, bool, Gradient> matmul{
    "matmul",
    {.native = {cpu::matmul}, .library = GRAFT_ONEDNN(onednn::matmul, onednn::matmul_supports)},
    GRAFT_GPU_AND_LIBRARY(cublas, matmul)};

}  // namespace graft::kernels
