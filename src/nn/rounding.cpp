#include "nn/rounding.h"

#include <mutex>

#include "autograd/on_device.h"
#include "kernels/elementwise.h"

namespace graft::nn {

void keep_rounded(const Tensor& weight, DType dtype) {
  if (!is_half(dtype) || weight.device().kind == Device::Kind::cpu || weight.shape().rank() < 2) return;
  static std::mutex mutex;  // plans of several threads share weights
  const std::lock_guard lock(mutex);
  const std::shared_ptr<Storage> storage = weight.storage();
  if (storage->bytes() != weight.bytes() || storage->rounded(dtype) != nullptr) return;
  const PurposeScope purpose(Purpose::parameters);
  const std::shared_ptr<Storage> memory = storage->memory_of_rounded(dtype);  // recorded steps know its address
  const Tensor copy = memory != nullptr ? Tensor::over(memory, 0, weight.shape(), dtype)
                                        : Tensor::empty(weight.shape(), dtype, weight.device());
  const autograd::OnDevice on(Context::current(), weight.device());
  kernels::cast(Context::current(), weight, copy, false);
  storage->keep_rounded(copy.storage(), dtype);
}

}  // namespace graft::nn
