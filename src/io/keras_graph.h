#pragma once

#include <string>
#include <string_view>

#include "graft/nn/network.h"

namespace graft::io {

/// Builds a network from the architecture that Keras saves beside its weights: Functional and Sequential models, models
/// inside models, shared layers; the JSON of Keras 1, 2 and 3. Layers keep their names.
///
/// `height` and `width` are used where the file leaves the input's size open; 0 asks for the size in the file and
/// throws if there is none. Throws Error, naming the Keras layer and its class, for what graft does not have.
nn::Network network_from_keras(std::string_view model_config, Index height = 0, Index width = 0);

}  // namespace graft::io
