#pragma once

#include <memory>
#include <set>
#include <utility>

#include "graft/core/storage.h"

namespace graft {

/// Which storages this thread writes until the end of the scope: what a replay of the same calls will write again.
class WriteLog {
 public:
  using Written = std::set<std::weak_ptr<Storage>, std::owner_less<>>;

  WriteLog() : previous_(std::exchange(current_, this)) {}
  ~WriteLog() { current_ = previous_; }
  WriteLog(const WriteLog&) = delete;
  WriteLog& operator=(const WriteLog&) = delete;

  static void note(const std::shared_ptr<Storage>& storage) {
    if (current_ != nullptr) current_->written_.insert(storage);
  }
  /// Those of a device that are still there.
  Written take(Device device) {
    std::erase_if(written_, [&](const std::weak_ptr<Storage>& one) {
      const std::shared_ptr<Storage> storage = one.lock();
      return storage == nullptr || storage->device() != device;
    });
    return std::exchange(written_, {});
  }

 private:
  static inline thread_local WriteLog* current_ = nullptr;
  WriteLog* previous_;
  Written written_;
};

}  // namespace graft
