#pragma once

#include "kernels/kernel.h"

namespace graft::kernels {
namespace cpu {
void layer_norm_forward(Context&, double epsilon, const Operand& x, const Operand& gamma, const Operand& beta,
                        const Operand& y, const Operand& mean, const Operand& inverse_deviation);
void layer_norm_backward_input(Context&, const Operand& x, const Operand& gamma, const Operand& mean,
                               const Operand& inverse_deviation, const Operand& dy, Gradient dx);
void layer_norm_backward_gamma(Context&, const Operand& x, const Operand& mean, const Operand& inverse_deviation,
                               const Operand& dy, Gradient dgamma);
}  // namespace cpu

GRAFT_DECLARE_GPU(layer_norm_forward)
GRAFT_DECLARE_GPU_LIBRARY(cudnn, layer_norm_forward)
GRAFT_DECLARE_GPU(layer_norm_backward_input)
GRAFT_DECLARE_GPU(layer_norm_backward_gamma)

/// y = (x - mean) inverse_deviation gamma + beta for each row of channels, with mean and 1 / sqrt(variance + epsilon)
/// of that row. x [..., C]; gamma and beta [C]; mean and inverse_deviation one number a row.
inline constexpr Kernel<double, const Operand&, const Operand&, const Operand&, const Operand&, const Operand&,
                        const Operand&>
    layer_norm_forward{"layer_norm",
                       {.native = {cpu::layer_norm_forward}, .library = {}},
                       GRAFT_GPU_AND_LIBRARY(cudnn, layer_norm_forward)};
/// dx (+)= inverse_deviation (g - mean(g) - n mean(g n)), with g = dy gamma, n = (x - mean) inverse_deviation and means
/// over the row.
inline constexpr Kernel<const Operand&, const Operand&, const Operand&, const Operand&, const Operand&, Gradient>
    layer_norm_backward_input{"layer_norm_backward_input",
                              {.native = {cpu::layer_norm_backward_input}, .library = {}},
                              GRAFT_GPU(layer_norm_backward_input)};
/// dgamma (+)= sum over the rows of dy n.
inline constexpr Kernel<const Operand&, const Operand&, const Operand&, const Operand&, Gradient>
    layer_norm_backward_gamma{"layer_norm_backward_gamma",
                              {.native = {cpu::layer_norm_backward_gamma}, .library = {}},
                              GRAFT_GPU(layer_norm_backward_gamma)};

}  // namespace graft::kernels
