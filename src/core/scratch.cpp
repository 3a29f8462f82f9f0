#include "core/scratch.h"

#include <vector>

namespace graft {

std::shared_ptr<Storage> scratch(std::size_t bytes) {
  thread_local std::vector<std::shared_ptr<Storage>> kept;
  std::shared_ptr<Storage>*fitting = nullptr, *largest = nullptr;  // of those that are not taken
  for (std::shared_ptr<Storage>& one : kept) {
    if (one.use_count() > 1) continue;
    if (one->bytes() >= bytes && (fitting == nullptr || one->bytes() < (*fitting)->bytes())) fitting = &one;
    if (largest == nullptr || one->bytes() > (*largest)->bytes()) largest = &one;
  }
  if (fitting != nullptr) return *fitting;
  if (largest == nullptr) largest = &kept.emplace_back();
  largest->reset();  // both at once may be more than there is
  return *largest = Storage::allocate(bytes);
}

}  // namespace graft
