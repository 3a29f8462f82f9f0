#pragma once

#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace graft::library {

/// Which of a library's engines was fastest for a call, measured once and kept in a JSON file: for each machine (GPU
/// and version of the library), calls and the names of their engines.
class Choices {
 public:
  /// Reads the file. One that is missing or damaged holds no choices: they cost time to measure again, nothing else.
  explicit Choices(std::filesystem::path file);

  std::optional<std::string> find(const std::string& machine, const std::string& call) const;
  /// Remembers a choice and writes the file, beside the old one, which it then replaces. A folder that cannot be
  /// written to is no error.
  void keep(const std::string& machine, const std::string& call, const std::string& engine);

 private:
  void read();

  std::filesystem::path file_;
  mutable std::mutex mutex_;
  std::map<std::string, std::map<std::string, std::string>> engines_;
};

/// The user's: `graft/cudnn-choices.json` in $XDG_CACHE_HOME, or in ~/.cache.
Choices& choices();

}  // namespace graft::library
