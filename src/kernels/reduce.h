#pragma once

#include "kernels/kernel.h"

namespace graft::kernels {
namespace cpu {
void sum_rows(Context&, const Operand& x, Gradient y);
}

/// y[c] (+)= sum over all rows of x[..., c]: the gradient of a bias. Summed in blocks of rows, whose number depends on the shape alone.
inline constexpr Kernel<const Operand&, Gradient> sum_rows{"sum_rows", {.native = {cpu::sum_rows}, .library = {}}};

}  // namespace graft::kernels
