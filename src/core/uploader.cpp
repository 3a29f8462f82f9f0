#include "core/uploader.h"

#include <cstring>

#include "graft/core/context.h"

#include "core/backend.h"

namespace graft {

Uploader::Uploader(Device device) : device_(device), copies_(Stream::create(device)) {}

Uploader::~Uploader() {
  if (routes_.empty()) return;
  backend(device_).drain();
  for (auto& [to, route] : routes_) release(route);
}

void Uploader::release(Route& route) {
  for (const Slot& slot : route.slots) {
    if (slot.pinned != nullptr) backend(device_).free_pinned(slot.pinned);
  }
  route = {};
}

void Uploader::upload(const Tensor& to, const void* from) {
  const std::size_t bytes = to.bytes();
  if (bytes == 0) return;
  if (device_.kind == Device::Kind::cpu) {
    std::memcpy(to.raw(), from, bytes);
    return Tensor(to).bump_version();
  }
  Route& route = routes_[to.raw()];
  if (route.bytes != bytes) {
    for (const Slot& slot : route.slots) {
      slot.copied.synchronize();
      slot.consumed.synchronize();
    }
    release(route);
    route.bytes = bytes;
  }
  Slot& slot = route.slots[route.next];
  route.next = 1 - route.next;
  slot.copied.synchronize();  // the pinned memory is free again
  if (slot.pinned == nullptr) slot.pinned = backend(device_).allocate_pinned(bytes);
  std::memcpy(slot.pinned, from, bytes);
  {
    ContextScope scope;
    scope->stream = copies_;
    if (!slot.buffer.defined()) slot.buffer = Tensor::empty(Shape{static_cast<Index>(bytes)}, DType::u8, device_);
    copies_.wait(slot.consumed);
    backend(device_).copy_pinned(slot.buffer.raw(), slot.pinned, bytes, copies_.handle());
    slot.copied = Event::record(device_, copies_);
  }
  const Stream& compute = Context::current().stream;
  compute.wait(slot.copied);
  backend(device_).copy(to.raw(), slot.buffer.raw(), bytes, Backend::Copy::on_device, compute.handle());
  slot.consumed = Event::record(device_, compute);
  Tensor(to).bump_version();
}

}  // namespace graft
