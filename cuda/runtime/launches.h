#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace graft {

/// How often each kernel was launched, by name, since the last reset; on the GPU and on the emulated device alike.
std::map<std::string, std::int64_t> launch_counts();
void reset_launch_counts();
/// Called by every launch.
void count_launch(const char* name);
/// Called by every replay of a recording, of `size` kernels and copies.
void note_replay(std::size_t size);
/// What was launched last, kernels and recordings, oldest first: among them is what a GPU reports as failed when
/// somebody waits.
std::vector<std::string> last_launches();

}  // namespace graft
