#pragma once

#include <map>
#include <string>
#include <vector>

#include "graft/core/device.h"
#include "graft/core/dtype.h"

namespace graft::tools {

/// What a device reaches with graft's engines, as the Context asks for them.
struct Reached {
  double copy = 0;                        ///< GB/s, bytes read and written
  std::map<std::string, double> product;  ///< GFLOP/s of a square matrix product, by type
};

/// Measures for some tenths of a second; the best of several runs each. The emulated device has no speed to measure.
Reached probe(Device device, const std::vector<DType>& dtypes = {DType::f32, DType::bf16});

}  // namespace graft::tools
