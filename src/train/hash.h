#pragma once

#include <string>

#include "graft/core/tensor.h"

namespace graft::train {

/// XXH3 of the tensor's bytes, 32 hexadecimal digits.
std::string hash_of(const Tensor& tensor);

}  // namespace graft::train
