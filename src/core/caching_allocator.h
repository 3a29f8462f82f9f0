#pragma once

#include <cstddef>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "graft/core/storage.h"

namespace graft {

/// Blocks of memory that are kept by size when they are freed, and reused, so that a training step allocates nothing
/// after the first. Safe from many threads.
class CachingAllocator {
 public:
  /// Where memory comes from. `allocate` returns null if there is none left. Without `keep`, every block is taken from
  /// the system and given back to it, in its exact size: what a device does that looks for mistakes.
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
  void release_cached();
  /// Gives back what was freed in the order of a queue that is no more.
  void release_cached(const void* queue);
  MemoryUse use() const;
  void reset_peak();

 private:
  using Blocks = std::unordered_map<std::size_t, std::vector<std::byte*>>;

  void count(std::size_t size, Purpose purpose);
  void discount(std::size_t size, Purpose purpose);
  [[noreturn]] void fail_full(std::size_t size);
  void release(const void* queue);

  const Device device_;
  const System system_;
  mutable std::mutex mutex_;
  std::unordered_map<const void*, Blocks> free_;  // by queue, then by size
  MemoryUse use_;
};

}  // namespace graft
