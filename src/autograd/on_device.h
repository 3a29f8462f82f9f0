#pragma once

#include "graft/core/context.h"

namespace graft::autograd {

/// Kernels run where their operands are: makes a device the Context's until the end of the scope.
class OnDevice {
 public:
  OnDevice(Context& context, Device device) : context_(context), previous_(context.device) { context.device = device; }
  ~OnDevice() { context_.device = previous_; }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  Context& context_;
  Device previous_;
};

}  // namespace graft::autograd
