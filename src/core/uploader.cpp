#include "core/uploader.h"

#include <cstring>

#include "graft/core/context.h"

#include "core/backend.h"

namespace graft {

Uploader::Uploader(Device device) : device_(device), copies_(Stream::create(device)) {}

Uploader::~Uploader() {
  if (!routes_.empty()) backend(device_).drain();
}

void Uploader::upload(const Tensor& to, const void* from) {
  const std::size_t bytes = to.bytes();
  if (bytes == 0) return;
  if (device_.kind == Device::Kind::cpu)
    std::memcpy(to.raw(), from, bytes);
  else
    upload(routes_[{to.raw(), bytes}], to, from);
  Tensor(to).bump_version();
}

Tensor Uploader::upload(const Tensor& from) {
  if (device_.kind == Device::Kind::cpu || from.device() == device_) return from.to(device_);
  Tensor to = Tensor::empty(from.shape(), from.dtype(), device_);
  if (to.bytes() > 0) upload(routes_[{nullptr, to.bytes()}], to, from.to(Device{}).raw());
  return to;
}

void Uploader::upload(Route& route, const Tensor& to, const void* from) {
  const std::size_t bytes = to.bytes();
  Slot& slot = route.slots[route.next];
  route.next = 1 - route.next;
  slot.copied.synchronize();  // the pinned memory is free again
  if (slot.pinned == nullptr) slot.pinned = pinned_memory(device_, bytes);
  std::memcpy(slot.pinned.get(), from, bytes);
  {
    ContextScope scope;
    scope->stream = copies_;
    if (!slot.buffer.defined()) slot.buffer = Tensor::empty(Shape{static_cast<Index>(bytes)}, DType::u8, device_);
    copies_.wait(slot.consumed);
    backend(device_).copy_pinned(slot.buffer.raw(), slot.pinned.get(), bytes, Backend::Copy::to_device,
                                 copies_.handle());
    slot.copied = Event::record(device_, copies_);
  }
  const Stream& compute = Context::current().stream;
  compute.wait(slot.copied);
  backend(device_).copy(to.raw(), slot.buffer.raw(), bytes, Backend::Copy::on_device, compute.handle());
  slot.consumed = Event::record(device_, compute);
}

}  // namespace graft
