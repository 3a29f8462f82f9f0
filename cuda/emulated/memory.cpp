#include "emulated/memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/format.h"
#include "emulated/block.h"
#include "emulated/poison.h"

namespace graft::emulated {

void Order::add(std::uint32_t stream, std::uint64_t command) {
  if (ends_.size() <= stream) ends_.resize(stream + 1);
  ends_[stream] = std::max(ends_[stream], command + 1);
}

void Order::add(const Order& other) {
  if (ends_.size() < other.ends_.size()) ends_.resize(other.ends_.size());
  for (std::size_t i = 0; i < other.ends_.size(); ++i) ends_[i] = std::max(ends_[i], other.ends_[i]);
}

std::optional<Access> Shadow::note(std::size_t offset, std::size_t bytes, const Access& access, const Order& before) {
  std::optional<Access> found;
  for (std::size_t at = offset; at < offset + bytes;) {
    const std::size_t word = at / 4, first = at % 4, count = std::min(4 - first, offset + bytes - at);
    const auto mask = static_cast<std::uint8_t>(((1u << count) - 1) << first);
    Page& page = pages_[word / kCellsAPage];
    if (page == nullptr) page = std::make_unique<Cell[]>(kCellsAPage);
    Cell& cell = page[word % kCellsAPage];
    if (!found && (cell.write.mask & mask) != 0 && races(cell.write, access, before)) found = cell.write.access;
    if (!found && access.write && (cell.read.mask & mask) != 0 && races(cell.read, access, before))
      found = cell.read.access;
    remember(access.write ? cell.write : cell.read, access, mask);
    at += count;
  }
  return found;
}

bool Shadow::races(const Record& earlier, const Access& now, const Order& before) {
  const Access& then = earlier.access;
  if (then.atomic && now.atomic) return false;
  if (then.launch != now.launch) return then.stream != now.stream && !before.has(then.stream, then.launch);
  if (earlier.several == Several::no && then.block == now.block && then.thread == now.thread) return false;
  if (earlier.several == Several::in_grid || then.block != now.block) return true;
  if (then.barriers < now.barriers) return false;
  const bool same_warp = earlier.several != Several::in_block && then.thread / kWarpSize == now.thread / kWarpSize;
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

std::byte* DeviceMemory::allocate(std::size_t bytes, std::uint32_t stream) {
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

void DeviceMemory::free(std::byte* block, std::uint64_t next_command) {
  Allocation* allocation = find(block);
  allocation->freed = next_command;
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

void DeviceMemory::name(std::uint64_t command, std::string name) {
  constexpr std::size_t kRemembered = 4096;
  names_.emplace(command, std::move(name));
  if (names_.size() > kRemembered) names_.erase(names_.begin());
}

std::optional<std::string> DeviceMemory::note(Allocation& allocation, std::ptrdiff_t offset, std::size_t bytes,
                                              const Access& access, const Order& before,
                                              const std::function<std::string(const Access& earlier)>& describe) {
  const char* verb = access.write ? "writes" : "reads";
  if (offset < 0 || static_cast<std::size_t>(offset) + bytes > allocation.bytes)
    return fmt::format("{} {} bytes at byte {} of a tensor that has {}", verb, bytes, offset, allocation.bytes);
  if (allocation.freed <= access.launch) return fmt::format("{} a tensor that was freed before this was queued", verb);
  if (allocation.freed != kNever && allocation.stream != access.stream)
    return fmt::format("{} a tensor that was freed in the order of another stream while this was queued", verb);
  const auto earlier = allocation.shadow.note(static_cast<std::size_t>(offset), bytes, access, before);
  if (!earlier) return {};
  if (earlier->launch == access.launch)
    return fmt::format("{} byte {} of a tensor, {}", verb, offset, describe(*earlier));
  const auto named = names_.find(earlier->launch);
  return fmt::format("{} byte {} of a tensor, which '{}' {} in another stream, and this stream does not wait for it",
                     verb, offset, named != names_.end() ? named->second : "something long ago",
                     earlier->write ? "wrote" : "read");
}

}  // namespace graft::emulated
