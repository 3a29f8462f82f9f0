#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace graft::emulated {

class Block;

/// The products of a warpgroup (wgmma) that one of its threads has under way. They read shared memory and change the
/// thread's sums as late as they may, when the thread waits for them, so that a kernel that gives a stage away or takes
/// a sum too early gets something else.
class AsyncProducts {
 public:
  struct Product {
    std::uint64_t a, b;  ///< matrix descriptors
    bool depth_inner_a, depth_inner_b;
    bool bfloat;  ///< bfloat16, not float16
    int columns;
    float* sums;  ///< of this thread, columns / 2
  };

  void add(const Product& product) { under_way_.push_back({product, groups_}); }
  void commit() { ++groups_; }
  /// Completes all groups but the last `pending`.
  void wait(Block& block, unsigned thread, unsigned pending);

 private:
  struct Queued {
    Product product;
    unsigned group;
  };

  std::vector<Queued> under_way_;
  unsigned groups_ = 0;
};

}  // namespace graft::emulated
