#pragma once

#include "graft/core/tensor.h"

#include "device/language.h"
#include "kernels/batch_norm.h"

namespace graft::kernels::GRAFT_TARGET {

/// `batch_norm_batch` of an x whose moments were taken when it was written, so that it is read once, to be normalised.
///
/// moments  [parts or more, 2, C] in the exact type of x: for each `rows_a_part` rows of x, the last part having fewer,
///          the mean of each channel and the sum of squared distances from it
void batch_norm_of_moments(Context& context, const BatchNormAttributes& attributes, const Tensor& moments,
                           Index rows_a_part, const Operand& x, const Operand& gamma, const Operand& beta,
                           const Operand& residual, const ChannelStatistics& moving, const Operand& y,
                           const ChannelStatistics& saved);

}  // namespace graft::kernels::GRAFT_TARGET
