#include "core/downloader.h"

#include <utility>

#include "graft/core/context.h"

#include "core/backend.h"

namespace graft {

Downloader::Downloader(Device device) : device_(device), copies_(Stream::create(device)) {}

Downloader::~Downloader() {
  if (slots_[0].use || slots_[1].use) backend(device_).drain();
}

void Downloader::download(std::vector<Tensor> values, Use use) {
  if (device_.kind == Device::Kind::cpu) return use(values);
  constexpr std::size_t kAlignment = 64;
  Slot& slot = slots_[next_];
  next_ = 1 - next_;
  slot.use = std::move(use);
  std::vector<std::size_t> offsets;
  std::size_t bytes = 0;
  for (const Tensor& value : values) {
    offsets.push_back(bytes);
    bytes += (value.bytes() + kAlignment - 1) / kAlignment * kAlignment;
  }
  if (slot.bytes < bytes) {
    slot.pinned = pinned_memory(device_, bytes);
    slot.bytes = bytes;
  }
  slot.values = std::move(values);
  copies_.wait(Event::record(device_, Context::current().stream));
  for (std::size_t i = 0; i < slot.values.size(); ++i) {
    const Tensor& value = slot.values[i];
    std::byte* const to = slot.pinned.get() + offsets[i];
    backend(device_).copy_pinned(to, value.raw(), value.bytes(), Backend::Copy::to_host, copies_.handle());
    slot.copies.push_back(
        Tensor::over(Storage::borrow(to, value.bytes(), slot.pinned), 0, value.shape(), value.dtype()));
  }
  slot.copied = Event::record(device_, copies_);
  hand_over(slots_[next_]);
}

void Downloader::finish() { hand_over(slots_[1 - next_]); }

void Downloader::hand_over(Slot& slot) {
  if (!slot.use) return;
  slot.copied.synchronize();
  slot.values.clear();
  const std::vector<Tensor> copies = std::exchange(slot.copies, {});
  std::exchange(slot.use, {})(copies);
}

}  // namespace graft
