#pragma once

#include "graft/train/source.h"

#include "core/uploader.h"

namespace graft::train {

/// As values_of, of examples that `uploader` brings to the network's device.
inline std::map<std::string, Tensor> values_of(const Examples& given, const nn::Network& network, DType dtype,
                                               Uploader& uploader) {
  Examples examples = given;
  for (auto& [node, value] : examples.values)
    value = uploader.upload(is_floating(value.dtype()) ? value.to(dtype) : value);
  return values_of(examples, network, dtype);
}

}  // namespace graft::train
