#pragma once

#include <stdexcept>
#include <string>

namespace graft {

/// Everything that goes wrong in graft is thrown as this: one sentence that names the operation or file, what was
/// expected and what was found, e.g. `[conv2d] expected input channels 64 (weight [128, 3, 3, 64]), got 32 (input [8,
/// 56, 56, 32])`.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace graft
