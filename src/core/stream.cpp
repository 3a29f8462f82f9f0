#include "graft/core/stream.h"

#include "core/backend.h"
#include "core/format.h"

namespace graft {

Backend& backend(Device device) {
  switch (device.kind) {
    case Device::Kind::cuda:
#if GRAFT_HAS_CUDA
      return cuda::backend(device.index);
#else
      fail("[device] {}: this build has no CUDA (GRAFT_WITH_CUDA)", device);
#endif
    case Device::Kind::emulated:
#if GRAFT_HAS_EMULATED
      return emulated::backend(device.index);
#else
      fail("[device] {}: this build has no emulated device (GRAFT_WITH_EMULATED)", device);
#endif
    case Device::Kind::cpu:
      break;
  }
  fail("[device] the CPU has no streams");
}

std::shared_ptr<std::byte> pinned_memory(Device device, std::size_t bytes) {
  Backend& owner = backend(device);
  return {owner.allocate_pinned(bytes), [&owner](std::byte* memory) { owner.free_pinned(memory); }};
}

Stream Stream::create(Device device) {
  Stream stream;
  if (device.kind == Device::Kind::cpu) return stream;
  Backend& owner = backend(device);
  stream.handle_ =
      std::shared_ptr<void>(owner.create_stream(), [&owner](void* handle) { owner.destroy_stream(handle); });
  return stream;
}

void Stream::synchronize(Device device) const {
  if (device.kind != Device::Kind::cpu) backend(device).synchronize(handle());
}

void Stream::wait(const Event& event) const {
  if (event.handle() != nullptr) backend(event.device()).wait_event(handle(), event.handle());
}

Event Event::record(Device device, const Stream& stream) {
  Event event;
  event.device_ = device;
  if (device.kind == Device::Kind::cpu) return event;
  Backend& owner = backend(device);
  event.handle_ = std::shared_ptr<void>(owner.record_event(stream.handle()),
                                        [&owner](void* handle) { owner.destroy_event(handle); });
  return event;
}

void Event::synchronize() const {
  if (handle() != nullptr) backend(device_).synchronize_event(handle());
}

double Event::milliseconds_since(const Event& earlier) const {
  if (handle() == nullptr || earlier.handle() == nullptr) return 0;
  return backend(device_).milliseconds_between(earlier.handle(), handle());
}

void synchronize(Device device) {
  if (device.kind != Device::Kind::cpu) backend(device).synchronize_all();
}

}  // namespace graft
