#include "emulated/memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "emulated/block.h"
#include "emulated/poison.h"

namespace graft::emulated {

std::optional<Access> Shadow::note(std::size_t offset, std::size_t bytes, const Access& access) {
  std::optional<Access> found;
  for (std::size_t at = offset; at < offset + bytes;) {
    const std::size_t word = at / 4, first = at % 4, count = std::min(4 - first, offset + bytes - at);
    const auto mask = static_cast<std::uint8_t>(((1u << count) - 1) << first);
    Page& page = pages_[word / kCellsAPage];
    if (page == nullptr) page = std::make_unique<Cell[]>(kCellsAPage);
    Cell& cell = page[word % kCellsAPage];
    if (!found && (cell.write.mask & mask) != 0 && races(cell.write, access)) found = cell.write.access;
    if (!found && access.write && (cell.read.mask & mask) != 0 && races(cell.read, access)) found = cell.read.access;
    remember(access.write ? cell.write : cell.read, access, mask);
    at += count;
  }
  return found;
}

bool Shadow::races(const Record& before, const Access& now) {
  const Access& then = before.access;
  if (then.launch != now.launch || (then.atomic && now.atomic)) return false;
  if (before.several == Several::no && then.block == now.block && then.thread == now.thread) return false;
  if (before.several == Several::in_grid || then.block != now.block) return true;
  if (then.barriers < now.barriers) return false;
  const bool same_warp = before.several != Several::in_block && then.thread / kWarpSize == now.thread / kWarpSize;
  return !(same_warp && then.warp_barriers < now.warp_barriers);
}

// Several readers of the same bytes are one record: the latest of them, and how far they are apart.
void Shadow::remember(Record& record, const Access& now, std::uint8_t mask) {
  const Access& then = record.access;
  const bool ended = (record.mask & mask) == 0 || then.launch != now.launch || now.write ||
                     (then.block == now.block && record.several != Several::in_grid && then.barriers < now.barriers);
  if (ended || (record.several == Several::no && then.block == now.block && then.thread == now.thread)) {
    record = {now, static_cast<std::uint8_t>(ended ? mask : record.mask | mask), Several::no};
    return;
  }
  Several apart = Several::in_warp;
  if (then.block != now.block)
    apart = Several::in_grid;
  else if (then.thread / kWarpSize != now.thread / kWarpSize)
    apart = Several::in_block;
  record = {now, static_cast<std::uint8_t>(record.mask | mask), std::max(record.several, apart)};
}

std::byte* DeviceMemory::allocate(std::size_t bytes, const void* stream) {
  const std::size_t whole = (bytes + 2 * kMargin + kMargin - 1) / kMargin * kMargin;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kMargin, whole));
  if (memory == nullptr) return nullptr;
  std::memset(memory, 0xFF, whole);  // NaN in every floating type
  Allocation& allocation = allocations_[reinterpret_cast<std::uintptr_t>(memory) + whole];
  allocation.base = memory + kMargin;
  allocation.bytes = bytes;
  allocation.stream = stream;
  poison(memory, kMargin);
  poison(allocation.base + bytes, whole - kMargin - bytes);
  return allocation.base;
}

void DeviceMemory::free(std::byte* block, std::uint64_t next_launch) {
  Allocation* allocation = find(block);
  allocation->freed = next_launch;
  freed_.push_back(allocations_.upper_bound(reinterpret_cast<std::uintptr_t>(block))->first);
  freed_bytes_ += allocation->bytes;
}

void DeviceMemory::release_freed() {
  constexpr std::size_t kKept = std::size_t{16} << 20;  // so that a later use is found too
  for (; poisoned_ < freed_.size(); ++poisoned_) {
    const Allocation& allocation = allocations_.at(freed_[poisoned_]);
    poison(allocation.base, allocation.bytes);
  }
  while (freed_bytes_ > kKept) {
    const auto found = allocations_.find(freed_.front());
    freed_.pop_front();
    --poisoned_;
    freed_bytes_ -= found->second.bytes;
    if (last_found_ == &found->second) last_found_ = nullptr;
    unpoison(found->second.base - kMargin,
             found->first - reinterpret_cast<std::uintptr_t>(found->second.base) + kMargin);
    std::free(found->second.base - kMargin);
    allocations_.erase(found);
  }
}

DeviceMemory::Allocation* DeviceMemory::find(const void* address) {
  const auto* at = static_cast<const std::byte*>(address);
  const auto holds = [at](const Allocation& a) { return at >= a.base - kMargin && at < a.base + a.bytes + kMargin; };
  if (last_found_ != nullptr && holds(*last_found_)) return last_found_;
  const auto found = allocations_.upper_bound(reinterpret_cast<std::uintptr_t>(address));
  if (found == allocations_.end() || !holds(found->second)) return nullptr;
  return last_found_ = &found->second;
}

}  // namespace graft::emulated
