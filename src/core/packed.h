#pragma once

#include <map>
#include <mutex>
#include <string>

#include "graft/core/operand.h"

#include "core/scratch.h"

namespace graft {

/// Copies of a block's elements in layouts of kernels' own, by the name of the layout. Safe from many threads.
class PackedCopies {
 public:
  /// The copy of that name, made by `make(to)` if there is none of the elements as they are now.
  template <class Make>
  std::shared_ptr<const Storage> get(const Storage& block, const std::string& layout, std::size_t bytes,
                                     const Make& make) {
    const std::lock_guard lock(mutex_);
    Copy& copy = copies_[layout];
    if (copy.storage == nullptr || copy.version != block.version() || copy.storage->bytes() != bytes) {
      const bool reusable = copy.storage != nullptr && copy.storage.use_count() == 1 && copy.storage->bytes() == bytes;
      if (!reusable) copy.storage = Storage::allocate(bytes);
      make(copy.storage->data());
      copy.version = block.version();
    }
    return copy.storage;
  }

  /// Takes a copy of the elements as they are now that was made elsewhere, unless there is one.
  void put(const Storage& block, const std::string& layout, std::shared_ptr<Storage> made) {
    const std::lock_guard lock(mutex_);
    Copy& copy = copies_[layout];
    if (copy.storage == nullptr) copy = {std::move(made), block.version()};
  }
  /// The copies of the elements as they are now.
  std::map<std::string, std::shared_ptr<Storage>> all(const Storage& block) const {
    const std::lock_guard lock(mutex_);
    std::map<std::string, std::shared_ptr<Storage>> current;
    for (const auto& [layout, copy] : copies_) {
      if (copy.storage != nullptr && copy.version == block.version()) current.emplace(layout, copy.storage);
    }
    return current;
  }

 private:
  struct Copy {
    std::shared_ptr<Storage> storage;
    std::uint64_t version = 0;  // of the elements when it was made
  };
  mutable std::mutex mutex_;
  std::map<std::string, Copy> copies_;
};

/// An operand's elements in another layout, of `bytes` bytes, which `make(to)` writes: the copy that is kept beside
/// them, or one that is made now. `layout` names everything that the copy depends on beside the elements.
template <class Make>
std::shared_ptr<const Storage> packed(const Operand& from, std::string layout, std::size_t bytes, const Make& make) {
  PackedCopies* const kept = from.block != nullptr ? from.block->packed() : nullptr;
  if (kept == nullptr) {
    const std::shared_ptr<Storage> copy = scratch(bytes);
    make(copy->data());
    return copy;
  }
  const auto offset = static_cast<const std::byte*>(from.data) - from.block->data();
  layout.append(reinterpret_cast<const char*>(&offset), sizeof(offset));
  return kept->get(*from.block, layout, bytes, make);
}

}  // namespace graft
