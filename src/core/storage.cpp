#include "graft/core/storage.h"

#include <bit>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/format.h"

namespace graft {
namespace {

constexpr std::size_t kAlignment = 64;  // a cache line, and the widest vector register

// Sizes are rounded to a quarter of a power of two: at most 25 % is wasted, and shapes that are nearly alike share
// blocks.
std::size_t size_class(std::size_t bytes) {
  if (bytes <= kAlignment) return kAlignment;
  const std::size_t quantum = std::max(kAlignment, std::bit_floor(bytes) / 4);
  return (bytes + quantum - 1) / quantum * quantum;
}

class CachingAllocator {
 public:
  std::byte* allocate(std::size_t bytes) {
    const std::size_t size = size_class(bytes);
    {
      const std::lock_guard lock(mutex_);
      auto& blocks = free_[size];
      if (!blocks.empty()) {
        std::byte* block = blocks.back();
        blocks.pop_back();
        use_.cached -= size;
        count(size);
        return block;
      }
    }
    auto* block = static_cast<std::byte*>(std::aligned_alloc(kAlignment, size));
    if (block == nullptr) {  // what is cached in other sizes may be what is missing
      release_cached();
      block = static_cast<std::byte*>(std::aligned_alloc(kAlignment, size));
    }
    const std::lock_guard lock(mutex_);
    check(block != nullptr, "[memory] the system has no {} bytes left; graft holds {} bytes in tensors", size,
          use_.in_use);
    ++use_.system_allocations;
    count(size);
    return block;
  }

  void free(std::byte* block, std::size_t bytes) {
    const std::size_t size = size_class(bytes);
    const std::lock_guard lock(mutex_);
    free_[size].push_back(block);
    use_.in_use -= size;
    use_.cached += size;
  }

  void release_cached() {
    const std::lock_guard lock(mutex_);
    for (auto& [size, blocks] : free_) {
      for (std::byte* block : blocks) std::free(block);
      use_.cached -= size * blocks.size();
      blocks.clear();
    }
  }

  MemoryUse use() {
    const std::lock_guard lock(mutex_);
    return use_;
  }

  void reset_peak() {
    const std::lock_guard lock(mutex_);
    use_.peak = use_.in_use;
  }

 private:
  void count(std::size_t size) {
    use_.in_use += size;
    use_.peak = std::max(use_.peak, use_.in_use);
  }

  std::mutex mutex_;
  std::unordered_map<std::size_t, std::vector<std::byte*>> free_;
  MemoryUse use_;
};

// Never destroyed: tensors with static lifetime may be freed after everything else.
CachingAllocator& allocator() {
  static auto* instance = new CachingAllocator;
  return *instance;
}

}  // namespace

Storage::Storage(std::byte* data, std::size_t bytes, Device device, std::shared_ptr<const void> keep_alive)
    : data_(data), bytes_(bytes), device_(device), keep_alive_(std::move(keep_alive)) {}

std::shared_ptr<Storage> Storage::allocate(std::size_t bytes, Device device) {
  check(device.kind == Device::Kind::cpu, "[memory] this build has no device '{}'", device);
  return std::shared_ptr<Storage>(new Storage(allocator().allocate(bytes), bytes, device, nullptr));
}

std::shared_ptr<Storage> Storage::borrow(void* data, std::size_t bytes, std::shared_ptr<const void> keep_alive,
                                         Device device) {
  check(keep_alive != nullptr, "[memory] borrowed memory needs an owner");
  return std::shared_ptr<Storage>(new Storage(static_cast<std::byte*>(data), bytes, device, std::move(keep_alive)));
}

Storage::~Storage() {
  if (keep_alive_ == nullptr) allocator().free(data_, bytes_);
}

MemoryUse memory_use() { return allocator().use(); }
void reset_peak_memory() { allocator().reset_peak(); }
void release_cached_memory() { allocator().release_cached(); }

}  // namespace graft
