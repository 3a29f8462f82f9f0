#include "core/caching_allocator.h"

#include <bit>

#include "core/format.h"

namespace graft {
namespace {

constexpr std::size_t kSmallest = 64;  // a cache line of the CPU; the GPU's runtime rounds to 256 by itself

// Sizes are rounded to a quarter of a power of two: at most 25 % is wasted, and shapes that are nearly alike share
// blocks.
std::size_t size_class(std::size_t bytes) {
  if (bytes <= kSmallest) return kSmallest;
  const std::size_t quantum = std::max(kSmallest, std::bit_floor(bytes) / 4);
  return (bytes + quantum - 1) / quantum * quantum;
}

}  // namespace

std::byte* CachingAllocator::allocate(std::size_t bytes, Purpose purpose, const void* queue) {
  const std::size_t size = system_.keep ? size_class(bytes) : bytes;
  if (system_.keep) {
    const std::lock_guard lock(mutex_);
    auto& blocks = free_[queue][size];
    if (!blocks.empty()) {
      std::byte* block = blocks.back();
      blocks.pop_back();
      use_.cached -= size;
      count(size, purpose);
      return block;
    }
  }
  std::byte* block = system_.allocate(size, device_.index, queue);
  if (block == nullptr) {  // what is cached in other sizes may be what is missing
    release_cached();
    block = system_.allocate(size, device_.index, queue);
  }
  const std::lock_guard lock(mutex_);
  if (block == nullptr) fail_full(size);
  ++use_.system_allocations;
  count(size, purpose);
  return block;
}

void CachingAllocator::free(std::byte* block, std::size_t bytes, Purpose purpose, const void* queue) {
  if (!system_.keep) {
    system_.free(block, device_.index, queue);
    const std::lock_guard lock(mutex_);
    discount(bytes, purpose);
    return;
  }
  const std::size_t size = size_class(bytes);
  const std::lock_guard lock(mutex_);
  free_[queue][size].push_back(block);
  discount(size, purpose);
  use_.cached += size;
}

void CachingAllocator::release_cached() {
  const std::lock_guard lock(mutex_);
  for (const auto& [queue, sizes] : free_) release(queue);
}

void CachingAllocator::release_cached(const void* queue) {
  const std::lock_guard lock(mutex_);
  release(queue);
  free_.erase(queue);
}

void CachingAllocator::release(const void* queue) {
  for (auto& [size, blocks] : free_[queue]) {
    for (std::byte* block : blocks) system_.free(block, device_.index, queue);
    use_.cached -= size * blocks.size();
    blocks.clear();
  }
}

MemoryUse CachingAllocator::use() const {
  const std::lock_guard lock(mutex_);
  return use_;
}

void CachingAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  use_.peak = use_.in_use;
}

void CachingAllocator::count(std::size_t size, Purpose purpose) {
  use_.in_use += size;
  use_.by_purpose[static_cast<std::size_t>(purpose)] += size;
  use_.peak = std::max(use_.peak, use_.in_use);
}

void CachingAllocator::discount(std::size_t size, Purpose purpose) {
  use_.in_use -= size;
  use_.by_purpose[static_cast<std::size_t>(purpose)] -= size;
}

void CachingAllocator::fail_full(std::size_t size) {
  constexpr std::array kNames{"other tensors", "parameters", "activations", "gradients", "optimizer state", "features"};
  std::string held;
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (use_.by_purpose[i] > 0)
      held += fmt::format("{}{} in {}", held.empty() ? ": " : ", ", use_.by_purpose[i], kNames[i]);
  }
  fail("[memory] {} has no {} bytes left; graft holds {} bytes{}", device_, size, use_.in_use, held);
}

}  // namespace graft
