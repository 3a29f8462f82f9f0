#pragma once

#include "graft/core/activation.h"

#include "kernels/kernel.h"

namespace graft::kernels {
namespace cpu {
void linear_forward(Context&, const Operand& x, const Operand& w, const Operand& bias, Activation, const Operand& y);
void linear_backward_input(Context&, const Operand& dz, const Operand& w, Gradient dx);
void linear_backward_weight(Context&, const Operand& x, const Operand& dz, Gradient dw);
}  // namespace cpu
namespace onednn {
void linear_forward(Context&, const Operand& x, const Operand& w, const Operand& bias, Activation, const Operand& y);
bool linear_forward_supports(const Context&, const Operand& x, const Operand& w, const Operand& bias, Activation,
                             const Operand& y);
void linear_backward_input(Context&, const Operand& dz, const Operand& w, Gradient dx);
bool linear_backward_input_supports(const Context&, const Operand& dz, const Operand& w, Gradient dx);
void linear_backward_weight(Context&, const Operand& x, const Operand& dz, Gradient dw);
bool linear_backward_weight_supports(const Context&, const Operand& x, const Operand& dz, Gradient dw);
}  // namespace onednn
namespace vectorized {
void linear_forward(Context&, const Operand& x, const Operand& w, const Operand& bias, Activation, const Operand& y);
bool linear_forward_supports(const Context&, const Operand& x, const Operand& w, const Operand& bias, Activation,
                             const Operand& y);
bool linear_forward_yields(const Context&, const Operand& x, const Operand& w, const Operand& bias, Activation,
                           const Operand& y);
void linear_backward_input(Context&, const Operand& dz, const Operand& w, Gradient dx);
bool linear_backward_input_supports(const Context&, const Operand& dz, const Operand& w, Gradient dx);
bool linear_backward_input_yields(const Context&, const Operand& dz, const Operand& w, Gradient dx);
void linear_backward_weight(Context&, const Operand& x, const Operand& dz, Gradient dw);
bool linear_backward_weight_supports(const Context&, const Operand& x, const Operand& dz, Gradient dw);
bool linear_backward_weight_yields(const Context&, const Operand& x, const Operand& dz, Gradient dw);
}  // namespace vectorized
GRAFT_DECLARE_GPU(linear_forward)
GRAFT_DECLARE_GPU_LIBRARY(cublas, linear_forward)
GRAFT_DECLARE_YIELDS(cublas, linear_forward)
GRAFT_DECLARE_GPU(linear_backward_input)
GRAFT_DECLARE_GPU_LIBRARY(cublas, linear_backward_input)
GRAFT_DECLARE_GPU(linear_backward_weight)
GRAFT_DECLARE_GPU_LIBRARY(cublas, linear_backward_weight)

/// y = activation(x w^T + bias). x [..., in], w [out, in], bias [out] or absent.
inline constexpr Kernel<const Operand&, const Operand&, const Operand&, Activation, const Operand&> linear_forward{
    "linear",
    {.native = {cpu::linear_forward},
     .library = GRAFT_ONEDNN(onednn::linear_forward, onednn::linear_forward_supports),
     .vectorized = GRAFT_VECTORIZED(vectorized::linear_forward, vectorized::linear_forward_supports,
                                    vectorized::linear_forward_yields)},
    GRAFT_GPU_AND_YIELDING_LIBRARY(cublas, linear_forward)};
/// dx (+)= dz w.
inline constexpr Kernel<const Operand&, const Operand&, Gradient> linear_backward_input{
    "linear_backward_input",
    {.native = {cpu::linear_backward_input},
     .library = GRAFT_ONEDNN(onednn::linear_backward_input, onednn::linear_backward_input_supports),
     .vectorized = GRAFT_VECTORIZED(vectorized::linear_backward_input, vectorized::linear_backward_input_supports,
                                    vectorized::linear_backward_input_yields)},
    GRAFT_GPU_AND_LIBRARY(cublas, linear_backward_input)};
/// dw (+)= dz^T x. dw has the type of w.
inline constexpr Kernel<const Operand&, const Operand&, Gradient> linear_backward_weight{
    "linear_backward_weight",
    {.native = {cpu::linear_backward_weight},
     .library = GRAFT_ONEDNN(onednn::linear_backward_weight, onednn::linear_backward_weight_supports),
     .vectorized = GRAFT_VECTORIZED(vectorized::linear_backward_weight, vectorized::linear_backward_weight_supports,
                                    vectorized::linear_backward_weight_yields)},
    GRAFT_GPU_AND_LIBRARY(cublas, linear_backward_weight)};

}  // namespace graft::kernels
