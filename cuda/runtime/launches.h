#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace graft {

/// How often each kernel was launched, by name, since the last reset; on the GPU and on the emulated device alike.
std::map<std::string, std::int64_t> launch_counts();
void reset_launch_counts();
/// Called by every launch.
void count_launch(const char* name);

}  // namespace graft
