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
/// What was launched last, kernels and recordings, each once, oldest first: among them is what a GPU reports as failed
/// when somebody waits.
std::vector<std::string> last_launches();

/// From here on the launches of this thread are recorded and not run.
void begin_recorded_launches();
/// The recording is over. Returns the names of its kernels, each once, in the order of their first launches: `conv2d,
/// relu`; of more than 32 how many others there are.
std::string end_recorded_launches();
/// Called by every replay of a recording of `size` kernels and copies, with what end_recorded_launches() returned.
void note_replay(std::size_t size, const std::string& kernels);

}  // namespace graft
