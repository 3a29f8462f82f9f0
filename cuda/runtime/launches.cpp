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

std::deque<std::string>& last() {
  static std::deque<std::string> names;
  return names;
}

void remember(std::string name) {
  constexpr std::size_t kRemembered = 8;
  if (last().size() == kRemembered) last().pop_front();
  last().push_back(std::move(name));
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
  remember(name);
}

void note_replay(std::size_t size) {
  const std::lock_guard lock(mutex);
  remember("a recording of " + std::to_string(size) + " kernels and copies");
}

}  // namespace graft
