#pragma once

#include "graft/train/metrics.h"
#include "graft/train/source.h"

namespace graft::train {

/// What a network makes of labelled examples: in inference, without gradients, by plain cross-entropy.
///
/// Throws Error if a label is not one of the network's outputs.
Metrics evaluate(nn::Network& network, Source& source, DType dtype = DType::f32);

/// The same for photos, prepared as the network expects them. Throws Error if the network's class names are known and
/// are not the folders', or a photo cannot be read.
Metrics evaluate(nn::Network& network, const data::ImageFolder& photos, Index batch = 32, int workers = 0,
                 DType dtype = DType::f32);

}  // namespace graft::train
