#include "emulated/traffic.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "emulated/block.h"

namespace graft::emulated {
namespace {

constexpr std::uintptr_t kSector = 32, kWord = 4, kBanks = 32;

std::map<std::string, Traffic>& totals() {
  static std::map<std::string, Traffic> map;
  return map;
}

void keep_distinct(std::vector<std::uintptr_t>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

// How many rounds these different words take: as many as the fullest bank has.
std::int64_t rounds(const std::vector<std::uintptr_t>& words) {
  std::array<std::int64_t, kBanks> in_bank{};
  for (const std::uintptr_t word : words) ++in_bank[word % kBanks];
  return *std::max_element(in_bank.begin(), in_bank.end());
}

}  // namespace

Traffic& Traffic::operator+=(const Traffic& other) {
  global_requests += other.global_requests;
  read_sectors += other.read_sectors;
  written_sectors += other.written_sectors;
  shared_requests += other.shared_requests;
  shared_wavefronts += other.shared_wavefronts;
  bank_conflicts += other.bank_conflicts;
  return *this;
}

std::map<std::string, Traffic> take_traffic() { return std::exchange(totals(), {}); }

std::size_t TrafficCounter::Hash::operator()(const Key& key) const {
  const std::uint64_t mixed = reinterpret_cast<std::uintptr_t>(key.instruction) * 0x9E3779B97F4A7C15u ^
                              (std::uint64_t{key.who} << 32 | key.times) * 0xC2B2AE3D27D4EB4Fu;
  return static_cast<std::size_t>(mixed ^ mixed >> 29);
}

void TrafficCounter::note(unsigned thread, const void* instruction, const void* address, std::size_t bytes, Kind kind) {
  const std::uint32_t times = executed_[{instruction, thread, 0}]++;
  Request& request = requests_[{instruction, thread / kWarpSize, times}];
  const unsigned lane = thread % kWarpSize;
  request.at[lane] = reinterpret_cast<std::uintptr_t>(address);
  request.lanes |= 1u << lane;
  request.bytes = static_cast<std::uint32_t>(bytes);
  request.kind = kind;
}

void TrafficCounter::note_copied(const void* address, std::size_t bytes) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  ++copied_.global_requests;
  copied_.read_sectors += static_cast<std::int64_t>((at + bytes - 1) / kSector - at / kSector + 1);
}

void TrafficCounter::flush(const std::string& kernel) {
  if (requests_.empty() && copied_ == Traffic{}) return;
  Traffic& total = totals()[kernel];
  total += std::exchange(copied_, {});
  for (const auto& [key, request] : requests_) total += cost(request);
  requests_.clear();
  executed_.clear();
}

Traffic TrafficCounter::cost(const Request& request) {
  const std::uintptr_t unit = request.kind == Kind::shared ? kWord : kSector;
  const auto units_of = [&](unsigned first_lane, unsigned last_lane) {
    std::vector<std::uintptr_t> units;
    for (unsigned lane = first_lane; lane < last_lane; ++lane) {
      if ((request.lanes >> lane & 1u) == 0) continue;
      for (std::uintptr_t u = request.at[lane] / unit; u <= (request.at[lane] + request.bytes - 1) / unit; ++u)
        units.push_back(u);
    }
    keep_distinct(units);
    return units;
  };
  if (request.kind != Kind::shared) {
    const auto sectors = static_cast<std::int64_t>(units_of(0, kWarpSize).size());
    const bool reads = request.kind == Kind::global_read;
    return {.global_requests = 1, .read_sectors = reads ? sectors : 0, .written_sectors = reads ? 0 : sectors};
  }
  Traffic traffic{.shared_requests = 1};
  const unsigned at_once = kWarpSize / std::max(1u, request.bytes / static_cast<unsigned>(kWord));
  for (unsigned lane = 0; lane < kWarpSize; lane += at_once) {
    const std::vector<std::uintptr_t> words = units_of(lane, lane + at_once);
    if (words.empty()) continue;
    traffic.shared_wavefronts += rounds(words);
    traffic.bank_conflicts += rounds(words) - 1;
  }
  return traffic;
}

}  // namespace graft::emulated
