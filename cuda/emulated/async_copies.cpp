#include "emulated/async_copies.h"

#include <cstring>

#include "emulated/block.h"

namespace graft::emulated {

// The copy may happen at any moment until it is waited for: it reads and writes at both ends of that time, so that
// whoever touches the same memory in between is found.
void AsyncCopies::add(Block& block, void* to, const void* from, std::size_t bytes, bool inside) {
  for (const void* at : {static_cast<const void*>(to), inside ? from : nullptr}) {
    if (reinterpret_cast<std::uintptr_t>(at) % bytes != 0) block.stop_misaligned(at, bytes);
  }
  if (block.checked()) {
    const void* const place = __builtin_return_address(0);  // in the kernel
    if (inside) block.note(from, bytes, false, false, place);
    block.note(to, bytes, true, false, static_cast<const char*>(place) + 1);
  }
  under_way_.push_back({to, inside ? from : nullptr, bytes, groups_});
}

void AsyncCopies::wait(Block& block, unsigned pending) {
  std::size_t done = 0;
  while (done < under_way_.size() && under_way_[done].group + pending < groups_) {
    const Copy& copy = under_way_[done++];
    if (block.checked()) block.note(copy.to, copy.bytes, true, false, nullptr);
    if (copy.from != nullptr)
      std::memcpy(copy.to, copy.from, copy.bytes);
    else
      std::memset(copy.to, 0, copy.bytes);
  }
  under_way_.erase(under_way_.begin(), under_way_.begin() + static_cast<std::ptrdiff_t>(done));
}

}  // namespace graft::emulated
