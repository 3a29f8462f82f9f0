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
  if (block == nullptr) fail_full(fmt::format("{} bytes", size));
  const std::lock_guard lock(mutex_);
  ++use_.system_allocations;
  count(size, purpose);
  return block;
}

void CachingAllocator::free(std::byte* block, std::size_t bytes, Purpose purpose, const void* queue) {
  const std::size_t size = system_.keep ? size_class(bytes) : bytes;
  const std::lock_guard lock(mutex_);
  discount(size, purpose);
  if (!system_.keep && !held_.contains(queue)) return system_.free(block, device_.index, queue);
  free_[queue][size].push_back(block);
  use_.cached += size;
}

void CachingAllocator::hold(const void* queue) {
  const std::lock_guard lock(mutex_);
  held_.insert(queue);
}

void CachingAllocator::release_cached() {
  const std::lock_guard lock(mutex_);
  for (const auto& [queue, sizes] : free_) {
    if (!held_.contains(queue)) release(queue);
  }
}

void CachingAllocator::release_cached(const void* queue) {
  const std::lock_guard lock(mutex_);
  release(queue);
  free_.erase(queue);
  held_.erase(queue);
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

void CachingAllocator::fail_full(std::string_view wanted) const {
  constexpr std::array kNames{"other tensors", "parameters", "activations", "gradients", "optimizer state", "features"};
  const MemoryUse now = use();
  std::string held;
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (now.by_purpose[i] > 0)
      held += fmt::format("{}{} in {}", held.empty() ? ": " : ", ", now.by_purpose[i], kNames[i]);
  }
  fail("[memory] {} has no {} left; graft holds {} bytes{}", device_, wanted, now.in_use, held);
}

}  // namespace graft
