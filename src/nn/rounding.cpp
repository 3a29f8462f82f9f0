#include "nn/rounding.h"

#include "autograd/on_device.h"
#include "kernels/elementwise.h"

namespace graft::nn {

void keep_rounded(const Tensor& weight, DType dtype) {
  if (!is_half(dtype) || weight.device().kind == Device::Kind::cpu || weight.shape().rank() < 2) return;
  const std::shared_ptr<Storage> storage = weight.storage();
  const Storage::Rounded* const kept = storage->rounded();
  if (kept != nullptr && kept->dtype == dtype) return;
  const PurposeScope purpose(Purpose::parameters);
  const Storage::Rounded& last = storage->last_rounded();  // recorded steps know its address
  const Tensor copy = last.copy && last.dtype == dtype ? Tensor::over(last.copy, 0, weight.shape(), dtype)
                                                       : Tensor::empty(weight.shape(), dtype, weight.device());
  const autograd::OnDevice on(Context::current(), weight.device());
  kernels::cast(Context::current(), weight, copy, false);
  storage->keep_rounded(copy.storage(), dtype);
}

}  // namespace graft::nn
