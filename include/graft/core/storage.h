#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "graft/core/dtype.h"
#include "graft/core/stream.h"

namespace graft {

class PackedCopies;

/// What memory is for: what an error that there is none left tells apart.
enum class Purpose : std::uint8_t { other, parameters, activations, gradients, optimizer, features };

/// Names the purpose of what this thread allocates until the end of the scope.
class PurposeScope {
 public:
  explicit PurposeScope(Purpose purpose);
  ~PurposeScope();
  PurposeScope(const PurposeScope&) = delete;
  PurposeScope& operator=(const PurposeScope&) = delete;

 private:
  Purpose previous_;
};

/// A block of memory that tensors share. Blocks are 64-byte aligned at least and come from a caching allocator: freed
/// blocks are kept by size and reused, so that a training step allocates nothing after the first. On a device the block
/// belongs to the Context's stream, and is reused in that stream's order; a tensor that another stream uses must not be
/// freed before that stream is done with it.
class Storage {
 public:
  /// Uninitialised memory. Throws Error, with what graft holds already, if there is none left.
  static std::shared_ptr<Storage> allocate(std::size_t bytes, Device device = {});
  /// Memory that somebody else owns; `keep_alive` is held as long as the storage lives.
  static std::shared_ptr<Storage> borrow(void* data, std::size_t bytes, std::shared_ptr<const void> keep_alive,
                                         Device device = {});
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

  /// Counts the writes since creation: backward compares it with the count at the time a tensor was saved.
  std::uint64_t version() const { return version_.load(std::memory_order_relaxed); }
  void bump_version() { version_.fetch_add(1, std::memory_order_relaxed); }

  /// A copy of the elements in half precision that somebody keeps beside them; of each such type there may be one.
  struct Rounded {
    std::shared_ptr<Storage> copy;
    DType dtype = DType::bf16;
    std::uint64_t version = 0;  ///< of the elements when it was made
  };
  /// The copy of a type if the elements are still those that it was made from; else null.
  const Rounded* rounded(DType half) const {
    const Rounded& kept = rounded_[slot_of(half)];
    return kept.copy && kept.dtype == half && kept.version == version() ? &kept : nullptr;
  }
  /// The same of the type that was kept last.
  const Rounded* rounded() const { return rounded(last_rounded_); }
  /// Where the copy of a half type lies, whether or not the elements have changed since; null if there never was one.
  std::shared_ptr<Storage> memory_of_rounded(DType half) const { return rounded_[slot_of(half)].copy; }
  /// Keeps a copy that was made from the elements as they are now, instead of the one of its type before.
  void keep_rounded(std::shared_ptr<Storage> copy, DType half) {
    rounded_[slot_of(half)] = {std::move(copy), half, version()};
    last_rounded_ = half;
  }

  /// Lets kernels keep copies of the elements in layouts of their own beside them, which many threads may do at once;
  /// or gives those copies back, which nobody may do while a kernel runs on them. For weights that many calls will read
  /// before they change.
  void keep_packed(bool keep);
  /// Null unless copies may be kept.
  PackedCopies* packed() const { return packed_.load(std::memory_order_acquire); }

 private:
  Storage(std::byte* data, std::size_t bytes, Device device, std::shared_ptr<const void> keep_alive);
  static std::size_t slot_of(DType half) { return half == DType::f16 ? 1 : 0; }

  std::byte* data_;
  std::size_t bytes_;
  Device device_;
  Stream stream_;  // in whose order it was allocated
  Purpose purpose_;
  std::shared_ptr<const void> keep_alive_;  // null: the memory is the allocator's
  std::array<Rounded, 2> rounded_;          // by slot_of
  DType last_rounded_ = DType::bf16;
  std::atomic<PackedCopies*> packed_{nullptr};  // its own
  std::atomic<std::uint64_t> version_{0};
};

/// What the allocator of a device holds, in bytes.
struct MemoryUse {
  std::size_t in_use = 0;                      ///< handed out to live storages
  std::size_t peak = 0;                        ///< the most that was ever in use at once since the last reset
  std::size_t cached = 0;                      ///< freed and kept for reuse
  std::size_t system_allocations = 0;          ///< how often the system was asked, ever
  std::array<std::size_t, 6> by_purpose = {};  ///< what is in use, by Purpose
};

MemoryUse memory_use(Device device = {});
/// Starts a new peak at what is in use now.
void reset_peak_memory(Device device = {});
/// Gives cached blocks back to the system.
void release_cached_memory(Device device = {});

}  // namespace graft
