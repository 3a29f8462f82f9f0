#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace graft::emulated {

/// Who touched memory, and after which meetings with the others.
struct Access {
  std::uint64_t launch = 0;
  std::uint32_t block = 0;
  std::uint32_t thread = 0;
  std::uint32_t barriers = 0;       ///< that the block had passed
  std::uint32_t warp_barriers = 0;  ///< that the thread had passed with its warp
  bool write = false;
  bool atomic = false;
};

/// What is remembered of each four bytes of memory, so that two accesses without a barrier between them are found. One
/// last write and one last read: enough to find a race, though not every one that there is.
class Shadow {
 public:
  /// Takes note of an access to `bytes` bytes at `offset`. Returns the earlier access that it races with, if any.
  std::optional<Access> note(std::size_t offset, std::size_t bytes, const Access& access);
  void clear() { pages_.clear(); }

 private:
  enum class Several : std::uint8_t { no, in_warp, in_block, in_grid };
  struct Record {
    Access access;
    std::uint8_t mask = 0;  // of the four bytes
    Several several = Several::no;
  };
  struct Cell {
    Record write, read;
  };
  static constexpr std::size_t kCellsAPage = 256;
  using Page = std::unique_ptr<Cell[]>;

  static bool races(const Record& before, const Access& now);
  static void remember(Record& record, const Access& now, std::uint8_t mask);

  std::unordered_map<std::size_t, Page> pages_;
};

/// The memory of the emulated device: what was allocated, by whom, and how it is used. Blocks have their exact size and
/// a margin around them that belongs to nobody.
class DeviceMemory {
 public:
  static constexpr std::size_t kMargin = 256;
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};

  struct Allocation {
    std::byte* base = nullptr;
    std::size_t bytes = 0;
    const void* stream = nullptr;  ///< in whose order it was allocated and freed
    std::uint64_t freed = kNever;  ///< the number of the launch that came next
    Shadow shadow;
  };

  /// Memory that is NaN until it is written; null if the system has none left.
  std::byte* allocate(std::size_t bytes, const void* stream);
  /// Keeps the memory for a while, so that who still uses it is found.
  void free(std::byte* block, std::uint64_t next_launch);
  /// Gives back the oldest of what was freed, and tells the address sanitizer of the rest. Nothing may be queued.
  void release_freed();

  /// The allocation that an address belongs to, its margin included; null for memory that is not the device's.
  Allocation* find(const void* address);

 private:
  std::map<std::uintptr_t, Allocation> allocations_;  // by the end of their margin
  std::deque<std::uintptr_t> freed_;
  std::size_t freed_bytes_ = 0;
  std::size_t poisoned_ = 0;  // of the freed ones, the oldest
  Allocation* last_found_ = nullptr;
};

}  // namespace graft::emulated
