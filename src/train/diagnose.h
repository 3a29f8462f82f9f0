#pragma once

#include <functional>
#include <string>

#include "graft/train/source.h"

namespace graft::train {

using Loss = std::function<Tensor(const Tensor& logits, const Examples& examples)>;

/// Says where a training step's numbers stop being finite, in half a sentence: in the input, in a parameter, in the
/// value of a layer (the first in order of computation), in the loss, or in a gradient (the first in order of
/// backward). Runs the step again; without `training` in inference, where there are no gradients.
std::string first_non_finite(nn::Network& network, const Examples& examples, DType dtype, const Loss& loss,
                             bool training);

}  // namespace graft::train
