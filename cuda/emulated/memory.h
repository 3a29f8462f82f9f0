#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace graft::emulated {

/// What a command of the device comes after: of each stream, the last command that it waits for (a vector clock).
class Order {
 public:
  bool has(std::uint32_t stream, std::uint64_t command) const {
    return stream < ends_.size() && command < ends_[stream];
  }
  void add(std::uint32_t stream, std::uint64_t command);
  void add(const Order& other);

 private:
  std::vector<std::uint64_t> ends_;  // by stream: one more than the last command
};

/// Who touched memory, and after which meetings with the others. A copy is a launch of one thread.
struct Access {
  std::uint64_t launch = 0;  ///< the number of the command
  std::uint32_t stream = 0;
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
  /// Takes note of an access to `bytes` bytes at `offset` by a command that comes after those of `before`. Returns the
  /// earlier access that it races with, if any.
  std::optional<Access> note(std::size_t offset, std::size_t bytes, const Access& access, const Order& before);
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

  static bool races(const Record& earlier, const Access& now, const Order& before);
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
    std::uint32_t stream = 0;      ///< in whose order it was allocated and freed
    std::uint64_t freed = kNever;  ///< the number of the command that came next
    Shadow shadow;
  };

  /// Memory that is NaN until it is written; null if the system has none left.
  std::byte* allocate(std::size_t bytes, std::uint32_t stream);
  /// Keeps the memory for a while, so that who still uses it is found.
  void free(std::byte* block, std::uint64_t next_command);
  /// Gives back the oldest of what was freed, and tells the address sanitizer of the rest. Nothing may be queued.
  void release_freed();

  /// The allocation that an address belongs to, its margin included; null for memory that is not the device's.
  Allocation* find(const void* address);

  /// Says how a command is called in what is told of its accesses. The latest few thousand are remembered.
  void name(std::uint64_t command, std::string name);
  /// Takes note of an access to `bytes` bytes at `offset` of an allocation. Returns what is wrong with it, in words:
  /// that it lies outside, that the memory is gone, or that it races with an earlier one, which `describe` puts into
  /// words where both are of one command.
  std::optional<std::string> note(Allocation& allocation, std::ptrdiff_t offset, std::size_t bytes,
                                  const Access& access, const Order& before,
                                  const std::function<std::string(const Access& earlier)>& describe);

 private:
  std::map<std::uintptr_t, Allocation> allocations_;  // by the end of their margin
  std::map<std::uint64_t, std::string> names_;        // by command
  std::deque<std::uintptr_t> freed_;
  std::size_t freed_bytes_ = 0;
  std::size_t poisoned_ = 0;  // of the freed ones, the oldest
  Allocation* last_found_ = nullptr;
};

}  // namespace graft::emulated
