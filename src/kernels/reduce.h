#pragma once

#include "kernels/kernel.h"

namespace graft::kernels {
namespace cpu {
void sum_rows(Context&, const Operand& x, Gradient y);
void sum_to(Context&, const Operand& x, double scale, Gradient y);
}  // namespace cpu

GRAFT_DECLARE_GPU(sum_rows)
GRAFT_DECLARE_GPU(sum_to)

/// y[c] (+)= sum over all rows of x[..., c]: the gradient of a bias. Summed in blocks of rows, whose number depends on
/// the shape alone.
inline constexpr Kernel<const Operand&, Gradient> sum_rows{
    "sum_rows", {.native = {cpu::sum_rows}, .library = {}}, GRAFT_GPU(sum_rows)};

/// y (+)= scale times the sum of x over the axes along which y, of the same rank, has extent 1.
inline constexpr Kernel<const Operand&, double, Gradient> sum_to{
    "sum_to", {.native = {cpu::sum_to}, .library = {}}, GRAFT_GPU(sum_to)};

}  // namespace graft::kernels
