#pragma once

#include <cstddef>
#include <vector>

namespace graft::emulated {

class Block;

/// The asynchronous copies that one thread has under way. They happen as late as they may, when the thread waits for
/// them, so that a kernel that reads before it waits reads what was there before.
class AsyncCopies {
 public:
  /// Stops the block if an address is no multiple of `bytes`. Where not `inside`, zeros arrive.
  void add(Block& block, void* to, const void* from, std::size_t bytes, bool inside);
  void commit() { ++groups_; }
  /// Completes all groups but the last `pending`.
  void wait(Block& block, unsigned pending);

 private:
  struct Copy {
    void* to;
    const void* from;  // null for zeros
    std::size_t bytes;
    unsigned group;
  };

  std::vector<Copy> under_way_;
  unsigned groups_ = 0;
};

}  // namespace graft::emulated
