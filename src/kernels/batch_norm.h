#pragma once

#include "graft/core/activation.h"

#include "kernels/kernel.h"

namespace graft {

/// What a batch normalisation is told beside its operands.
struct BatchNormAttributes {
  double epsilon = 1e-3;
  double momentum = 0.99;
  bool unbiased = false;
  Activation activation = Activation::linear;
};

/// A mean and a spread for each channel, in the exact type.
struct ChannelStatistics {
  Operand mean;
  Operand spread;  ///< the variance in moving statistics, 1 / sqrt(variance + epsilon) in saved ones
};

/// What batch-norm's backward computes.
struct BatchNormGradients {
  Gradient x, gamma, beta;
  /// Where something was added before the activation, graft's own kernel on a GPU leaves its gradient here, dz, which
  /// it finds by the result `y`. Absent for all others, to which the attributes say no activation then.
  Operand residual = {}, y = {};
};

namespace kernels {
namespace cpu {
void batch_norm_batch(Context&, const BatchNormAttributes&, const Operand& x, const Operand& gamma, const Operand& beta,
                      const Operand& residual, const ChannelStatistics& moving, const Operand& y,
                      const ChannelStatistics& saved);
void batch_norm_moving(Context&, const BatchNormAttributes&, const Operand& x, const Operand& gamma,
                       const Operand& beta, const Operand& residual, const ChannelStatistics& moving, const Operand& y);
void batch_norm_batch_backward(Context&, const BatchNormAttributes&, const Operand& x, const Operand& gamma,
                               const Operand& beta, const ChannelStatistics& saved, const Operand& dy,
                               const BatchNormGradients&);
void batch_norm_moving_backward(Context&, const BatchNormAttributes&, const Operand& x, const Operand& gamma,
                                const ChannelStatistics& moving, const Operand& dz, const BatchNormGradients&);
}  // namespace cpu
namespace onednn {
void batch_norm_batch(Context&, const BatchNormAttributes&, const Operand& x, const Operand& gamma, const Operand& beta,
                      const Operand& residual, const ChannelStatistics& moving, const Operand& y,
                      const ChannelStatistics& saved);
bool batch_norm_batch_supports(const Context&, const BatchNormAttributes&, const Operand& x, const Operand& gamma,
                               const Operand& beta, const Operand& residual, const ChannelStatistics& moving,
                               const Operand& y, const ChannelStatistics& saved);
void batch_norm_moving(Context&, const BatchNormAttributes&, const Operand& x, const Operand& gamma,
                       const Operand& beta, const Operand& residual, const ChannelStatistics& moving, const Operand& y);
bool batch_norm_moving_supports(const Context&, const BatchNormAttributes&, const Operand& x, const Operand& gamma,
                                const Operand& beta, const Operand& residual, const ChannelStatistics& moving,
                                const Operand& y);
void batch_norm_batch_backward(Context&, const BatchNormAttributes&, const Operand& x, const Operand& gamma,
                               const Operand& beta, const ChannelStatistics& saved, const Operand& dy,
                               const BatchNormGradients&);
bool batch_norm_batch_backward_supports(const Context&, const BatchNormAttributes&, const Operand& x,
                                        const Operand& gamma, const Operand& beta, const ChannelStatistics& saved,
                                        const Operand& dy, const BatchNormGradients&);
}  // namespace onednn
namespace vectorized {
decltype(cpu::batch_norm_batch) batch_norm_batch;
Supports<decltype(cpu::batch_norm_batch)>::Function batch_norm_batch_supports;
decltype(cpu::batch_norm_moving) batch_norm_moving;
Supports<decltype(cpu::batch_norm_moving)>::Function batch_norm_moving_supports;
decltype(cpu::batch_norm_batch_backward) batch_norm_batch_backward;
Supports<decltype(cpu::batch_norm_batch_backward)>::Function batch_norm_batch_backward_supports;
decltype(cpu::batch_norm_moving_backward) batch_norm_moving_backward;
Supports<decltype(cpu::batch_norm_moving_backward)>::Function batch_norm_moving_backward_supports;
}  // namespace vectorized

GRAFT_DECLARE_GPU(batch_norm_batch)
GRAFT_DECLARE_GPU_LIBRARY(cudnn, batch_norm_batch)
GRAFT_DECLARE_GPU(batch_norm_moving)
GRAFT_DECLARE_GPU_LIBRARY(cudnn, batch_norm_moving)
GRAFT_DECLARE_GPU(batch_norm_batch_backward)
GRAFT_DECLARE_GPU_LIBRARY(cudnn, batch_norm_batch_backward)
GRAFT_DECLARE_GPU(batch_norm_moving_backward)

/// y = activation(gamma (x - mean) inverse_deviation + beta + residual) with the batch's statistics, which are saved
/// and update the moving ones. gamma, beta, residual may be absent.
inline constexpr Kernel<const BatchNormAttributes&, const Operand&, const Operand&, const Operand&, const Operand&,
                        const ChannelStatistics&, const Operand&, const ChannelStatistics&>
    batch_norm_batch{
        "batch_norm",
        {.native = {cpu::batch_norm_batch},
         .library = GRAFT_ONEDNN(onednn::batch_norm_batch, onednn::batch_norm_batch_supports),
         .vectorized = GRAFT_VECTORIZED(vectorized::batch_norm_batch, vectorized::batch_norm_batch_supports, nullptr)},
        GRAFT_GPU_AND_LIBRARY(cudnn, batch_norm_batch)};
/// The same with the moving statistics, which do not change.
inline constexpr Kernel<const BatchNormAttributes&, const Operand&, const Operand&, const Operand&, const Operand&,
                        const ChannelStatistics&, const Operand&>
    batch_norm_moving{"batch_norm_moving",
                      {.native = {cpu::batch_norm_moving},
                       .library = GRAFT_ONEDNN(onednn::batch_norm_moving, onednn::batch_norm_moving_supports),
                       .vectorized = GRAFT_VECTORIZED(vectorized::batch_norm_moving,
                                                      vectorized::batch_norm_moving_supports, nullptr)},
                      GRAFT_GPU_AND_LIBRARY(cudnn, batch_norm_moving)};
/// The gradients given dy; x may be absent if only beta's is wanted, for a linear activation. Behind a ReLU or ReLU6,
/// with nothing added, what of dy it lets through is found by computing its result again from x.
inline constexpr Kernel<const BatchNormAttributes&, const Operand&, const Operand&, const Operand&,
                        const ChannelStatistics&, const Operand&, const BatchNormGradients&>
    batch_norm_batch_backward{
        "batch_norm_backward",
        {.native = {cpu::batch_norm_batch_backward},
         .library = GRAFT_ONEDNN(onednn::batch_norm_batch_backward, onednn::batch_norm_batch_backward_supports),
         .vectorized = GRAFT_VECTORIZED(vectorized::batch_norm_batch_backward,
                                        vectorized::batch_norm_batch_backward_supports, nullptr)},
        GRAFT_GPU_AND_LIBRARY(cudnn, batch_norm_batch_backward)};
/// The gradients of the affine map; x may be absent unless gamma's is wanted. oneDNN's takes 1.5 to 2.4 times
/// as long as graft's own, so there is no library entry.
inline constexpr Kernel<const BatchNormAttributes&, const Operand&, const Operand&, const ChannelStatistics&,
                        const Operand&, const BatchNormGradients&>
    batch_norm_moving_backward{
        "batch_norm_moving_backward",
        {.native = {cpu::batch_norm_moving_backward},
         .library = {},
         .vectorized = GRAFT_VECTORIZED(vectorized::batch_norm_moving_backward,
                                        vectorized::batch_norm_moving_backward_supports, nullptr)},
        GRAFT_GPU(batch_norm_moving_backward)};

}  // namespace kernels
}  // namespace graft
