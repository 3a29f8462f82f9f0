#include "runtime/launches.h"

#include <algorithm>
#include <deque>
#include <mutex>
#include <optional>

#include "core/format.h"

namespace graft {
namespace {

std::mutex mutex;
std::map<std::string, std::int64_t>& counts() {
  static std::map<std::string, std::int64_t> map;
  return map;
}

std::deque<std::string>& last() {
  static std::deque<std::string> names;
  return names;
}

void remember(std::string name) {
  constexpr std::size_t kRemembered = 8;
  std::erase(last(), name);
  if (last().size() == kRemembered) last().pop_front();
  last().push_back(std::move(name));
}

// The names of what this thread records now.
std::optional<std::vector<std::string>>& recorded() {
  thread_local std::optional<std::vector<std::string>> names;
  return names;
}

}  // namespace

std::vector<std::string> last_launches() {
  const std::lock_guard lock(mutex);
  return {last().begin(), last().end()};
}

std::map<std::string, std::int64_t> launch_counts() {
  const std::lock_guard lock(mutex);
  return counts();
}

void reset_launch_counts() {
  const std::lock_guard lock(mutex);
  counts().clear();
}

void count_launch(const char* name) {
  const std::lock_guard lock(mutex);
  ++counts()[name];
  if (!recorded()) return remember(name);
  std::vector<std::string>& names = *recorded();
  if (std::find(names.begin(), names.end(), name) == names.end()) names.emplace_back(name);
}

void begin_recorded_launches() { recorded().emplace(); }

std::string end_recorded_launches() {
  constexpr std::size_t kNamed = 32;
  const auto names = std::exchange(recorded(), std::nullopt).value_or(std::vector<std::string>());
  const auto end = names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), kNamed));
  std::string text = fmt::format("{}", fmt::join(names.begin(), end, ", "));
  if (names.size() > kNamed) text += fmt::format(" and {} more", names.size() - kNamed);
  return text;
}

void note_replay(std::size_t size, const std::string& kernels) {
  std::string what = fmt::format("a recording of {} kernels and copies", size);
  if (!kernels.empty()) what += fmt::format(" ({})", kernels);
  const std::lock_guard lock(mutex);
  remember(std::move(what));
}

}  // namespace graft
