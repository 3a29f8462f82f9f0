#pragma once

#include <algorithm>
#include <vector>

#include "graft/core/context.h"
#include "graft/core/generator.h"
#include "graft/core/tensor.h"

#include "core/dtype_dispatch.h"

/// What the tests of products on the emulated device share.
namespace graft::test {

inline constexpr Device kEmulated{Device::Kind::emulated, 0};

/// Small whole numbers: every sum is exact in float and in the halves, so that a wrong place cannot hide.
template <class T>
std::vector<T> whole_numbers(Index count, std::uint64_t seed) {
  std::vector<T> values;
  Generator generator{.seed = seed};
  for (Index i = 0; i < count; ++i) values.push_back(convert<T>(static_cast<float>(generator.below(9) - 4)));
  return values;
}

/// A tensor of the device that holds these values.
template <class T>
Tensor on_device(const std::vector<T>& values) {
  Tensor tensor = Tensor::empty({static_cast<Index>(values.size())}, dtype_of<T>);
  std::copy(values.begin(), values.end(), tensor.mutable_data<T>());
  return tensor.to(kEmulated);
}
template <class T>
T* of(const Tensor& tensor) {
  return static_cast<T*>(tensor.raw());
}

/// Launches are queued in the stream of the Context, which is the device's while this lives.
struct OnDevice : ContextScope {
  OnDevice() { (*this)->device = kEmulated; }
};

}  // namespace graft::test
