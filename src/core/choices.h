#pragma once

#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace graft {

/// True if GRAFT_AUTOTUNE=1 is in the environment: where a call has several implementations, they are measured at its
/// first time, and the fastest is kept.
bool autotunes();

/// Where programs keep what they can make again: $XDG_CACHE_HOME, or ~/.cache. Empty if the system says neither.
std::filesystem::path user_cache_folder();

/// Which implementation was fastest for a call, measured once and kept in a JSON file: for each machine (processor or
/// GPU, and version of the library), calls and the names of what computes them.
class Choices {
 public:
  /// Reads the file. One that is missing or damaged holds no choices: they cost time to measure again, nothing else.
  explicit Choices(std::filesystem::path file);

  std::optional<std::string> find(const std::string& machine, const std::string& call) const;
  /// Remembers a choice, unless another thread has done so meanwhile, and returns what is kept. Writes the file, beside
  /// the old one, which it then replaces. A folder that cannot be written to is no error, and an empty path no file.
  std::string keep(const std::string& machine, const std::string& call, const std::string& engine);

 private:
  void read();  // what is not known yet

  std::filesystem::path file_;
  mutable std::mutex mutex_;
  std::map<std::string, std::map<std::string, std::string>> engines_;
};

/// The user's: `graft/kernel-choices.json` in their cache folder.
Choices& choices();

}  // namespace graft
