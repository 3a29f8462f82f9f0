#include "graft/core/storage.h"

#include <cstdlib>
#include <utility>

#include <sys/mman.h>

#include "graft/core/context.h"

#include "core/backend.h"
#include "core/format.h"
#include "core/packed.h"

namespace graft {
namespace {

constexpr std::size_t kAlignment = 64;  // a cache line, and the widest vector register

// Large blocks lie in large pages, where Linux has them for who asks: a fault brings 2 MiB, and one entry of the
// translation buffer finds them.
std::byte* allocate_on_cpu(std::size_t bytes) {
  constexpr std::size_t kPage = std::size_t{2} << 20, kLeast = 2 * kPage;
  void* block = nullptr;
  if (posix_memalign(&block, bytes < kLeast ? kAlignment : kPage, bytes) != 0) return nullptr;
  if (bytes >= kLeast) madvise(block, bytes, MADV_HUGEPAGE);
  return static_cast<std::byte*>(block);
}

// Never destroyed: tensors with static lifetime may be freed after everything else.
CachingAllocator& allocator(Device device) {
  if (device.kind != Device::Kind::cpu) return backend(device).memory();
  static auto* instance =
      new CachingAllocator({}, {.allocate = [](std::size_t bytes, int, const void*) { return allocate_on_cpu(bytes); },
                                .free = [](std::byte* block, int, const void*) { std::free(block); }});
  return *instance;
}

// The CPU has no queues: whoever frees a block has finished with it.
thread_local Purpose current_purpose = Purpose::other;

Stream current_stream(Device device) { return device.kind == Device::Kind::cpu ? Stream() : Context::current().stream; }

}  // namespace

PurposeScope::PurposeScope(Purpose purpose) : previous_(std::exchange(current_purpose, purpose)) {}
PurposeScope::~PurposeScope() { current_purpose = previous_; }

Storage::Storage(std::byte* data, std::size_t bytes, Device device, std::shared_ptr<const void> keep_alive)
    : data_(data),
      bytes_(bytes),
      device_(device),
      stream_(current_stream(device)),
      purpose_(current_purpose),
      keep_alive_(std::move(keep_alive)) {}

std::shared_ptr<Storage> Storage::allocate(std::size_t bytes, Device device) {
  std::byte* block = allocator(device).allocate(bytes, current_purpose, current_stream(device).handle());
  return std::shared_ptr<Storage>(new Storage(block, bytes, device, nullptr));
}

std::shared_ptr<Storage> Storage::borrow(void* data, std::size_t bytes, std::shared_ptr<const void> keep_alive,
                                         Device device) {
  check(keep_alive != nullptr, "[memory] borrowed memory needs an owner");
  return std::shared_ptr<Storage>(new Storage(static_cast<std::byte*>(data), bytes, device, std::move(keep_alive)));
}

Storage::~Storage() {
  keep_packed(false);
  if (keep_alive_ == nullptr) allocator(device_).free(data_, bytes_, purpose_, stream_.handle());
}

void Storage::keep_packed(bool keep) {
  if (keep == (packed() != nullptr)) return;
  if (!keep) {
    delete packed_.exchange(nullptr);
    return;
  }
  auto fresh = std::make_unique<PackedCopies>();
  PackedCopies* none = nullptr;
  if (packed_.compare_exchange_strong(none, fresh.get())) static_cast<void>(fresh.release());  // else another was first
}

MemoryUse memory_use(Device device) { return allocator(device).use(); }
void reset_peak_memory(Device device) { allocator(device).reset_peak(); }
void release_cached_memory(Device device) { allocator(device).release_cached(); }

}  // namespace graft
