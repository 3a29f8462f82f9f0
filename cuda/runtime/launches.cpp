#include "runtime/launches.h"

#include <mutex>

namespace graft {
namespace {

std::mutex mutex;
std::map<std::string, std::int64_t>& counts() {
  static std::map<std::string, std::int64_t> map;
  return map;
}

}  // namespace

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
}

}  // namespace graft
