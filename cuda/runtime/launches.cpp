#include "runtime/launches.h"

#include <deque>
#include <mutex>

namespace graft {
namespace {

std::mutex mutex;
std::map<std::string, std::int64_t>& counts() {
  static std::map<std::string, std::int64_t> map;
  return map;
}

constexpr std::size_t kRemembered = 8;
std::deque<std::string>& last() {
  static std::deque<std::string> names;
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
  if (last().size() == kRemembered) last().pop_front();
  last().emplace_back(name);
}

}  // namespace graft
