#pragma once

#include "kernels/batch_norm.h"

namespace graft::library {

/// moving = momentum moving + (1 - momentum) batch, from what a batch norm over `rows` rows saved: cuDNN itself knows
/// the unbiased variance alone.
void update_moving(const Context& context, const BatchNormAttributes& attributes, Index rows,
                   const ChannelStatistics& saved, const ChannelStatistics& moving);

}  // namespace graft::library
