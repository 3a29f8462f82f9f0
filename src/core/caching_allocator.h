#pragma once

#include <cstddef>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "graft/core/storage.h"

namespace graft {

/// Blocks of memory that are kept by size when they are freed, and reused, so that a training step allocates nothing
/// after the first. Safe from many threads.
class CachingAllocator {
 public:
  /// Where memory comes from. `allocate` returns null if there is none left. Without `keep`, every block is taken from
  /// the system and given back to it, unless it is held, in its exact size: what a device does that looks for mistakes.
  struct System {
    std::byte* (*allocate)(std::size_t bytes, int device, const void* queue);
    void (*free)(std::byte* block, int device, const void* queue);
    bool keep = true;
  };

  CachingAllocator(Device device, System system) : device_(device), system_(system) {}

  /// Throws Error, with what graft holds already, if there is no memory left.
  ///
  /// A block that was freed in the order of `queue` is given only to the same queue: there, whoever used it last has
  /// finished when the new owner starts. The CPU has one queue, null.
  std::byte* allocate(std::size_t bytes, Purpose purpose, const void* queue = nullptr);
  void free(std::byte* block, std::size_t bytes, Purpose purpose, const void* queue = nullptr);
  /// Whatever is freed in the order of this queue stays the queue's until it is no more: it is recorded, and replays
  /// write there.
  void hold(const void* queue);
  /// Gives back what is cached, but not what is held.
  void release_cached();
  /// Gives back what was freed in the order of a queue that is no more.
  void release_cached(const void* queue);
  MemoryUse use() const;
  void reset_peak();
  /// Throws the Error that `wanted` found no memory left, with what graft holds.
  [[noreturn]] void fail_full(std::string_view wanted) const;

 private:
  using Blocks = std::unordered_map<std::size_t, std::vector<std::byte*>>;

  void count(std::size_t size, Purpose purpose);
  void discount(std::size_t size, Purpose purpose);
  void release(const void* queue);

  const Device device_;
  const System system_;
  mutable std::mutex mutex_;
  std::unordered_map<const void*, Blocks> free_;  // by queue, then by size
  std::unordered_set<const void*> held_;
  MemoryUse use_;
};

}  // namespace graft
