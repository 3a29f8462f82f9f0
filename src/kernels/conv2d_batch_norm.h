#pragma once

#include "kernels/batch_norm.h"
#include "kernels/conv2d.h"

namespace graft {

/// What a convolution and the batch normalisation of its result read and write. bias, gamma, beta and residual may be
/// absent.
struct Conv2dBatchNormOperands {
  Operand x, w, bias;  ///< of the convolution
  Operand gamma, beta, residual;
  ChannelStatistics moving;
  Operand z;  ///< the convolution's result, which backward reads
  Operand y;
  ChannelStatistics saved;
};

namespace kernels {
namespace cpu {
void conv2d_batch_norm(Context&, const ConvGeometry&, const BatchNormAttributes&, const Conv2dBatchNormOperands&);
}  // namespace cpu
GRAFT_DECLARE_GPU(conv2d_batch_norm)
GRAFT_DECLARE_GPU_LIBRARY(cudnn, conv2d_batch_norm)
GRAFT_DECLARE_YIELDS(cudnn, conv2d_batch_norm)

/// z = conv(x, w) + bias, and y its batch normalisation with the batch's statistics, as `batch_norm_batch` has it. On
/// the CPU, and where a GPU's library has the convolution, it is one kernel after the other, each from the engine that
/// the Context asks for.
inline constexpr Kernel<const ConvGeometry&, const BatchNormAttributes&, const Conv2dBatchNormOperands&>
    conv2d_batch_norm{"conv2d_batch_norm",
                      {.native = {cpu::conv2d_batch_norm}, .library = GRAFT_ONEDNN(cpu::conv2d_batch_norm, nullptr)},
                      GRAFT_GPU_AND_YIELDING_LIBRARY(cudnn, conv2d_batch_norm)};

}  // namespace kernels
}  // namespace graft
