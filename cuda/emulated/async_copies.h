#pragma once

#include <cstring>
#include <vector>

namespace graft::emulated {

/// The asynchronous copies that one thread has under way. They happen as late as they may, when the thread waits for
/// them, so that a kernel that reads before it waits reads what was there before.
class AsyncCopies {
 public:
  void add(void* to, const void* from, unsigned bytes, bool inside) {
    under_way_.push_back({to, from, bytes, inside, groups_});
  }
  void commit() { ++groups_; }

  /// Completes all groups but the last `pending`.
  void wait(unsigned pending) {
    std::size_t done = 0;
    while (done < under_way_.size() && under_way_[done].group + pending < groups_) {
      const Copy& copy = under_way_[done++];
      if (copy.inside)
        std::memcpy(copy.to, copy.from, copy.bytes);
      else
        std::memset(copy.to, 0, copy.bytes);
    }
    under_way_.erase(under_way_.begin(), under_way_.begin() + static_cast<std::ptrdiff_t>(done));
  }

 private:
  struct Copy {
    void* to;
    const void* from;
    unsigned bytes;
    bool inside;
    unsigned group;
  };

  std::vector<Copy> under_way_;
  unsigned groups_ = 0;
};

}  // namespace graft::emulated
