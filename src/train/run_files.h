#pragma once

#include <filesystem>

#include <nlohmann/json.hpp>

#include "graft/train/trainer.h"

namespace graft::train {

/// The files of a run in its folder. Errors name the file.
class RunFiles {
 public:
  explicit RunFiles(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// False for a run that writes nothing.
  explicit operator bool() const { return !folder_.empty(); }
  std::filesystem::path checkpoint() const { return folder_ / "checkpoint.safetensors"; }
  std::filesystem::path best() const { return folder_ / "best.safetensors"; }
  std::filesystem::path last() const { return folder_ / "last.safetensors"; }

  /// Throws Error if a run that is to start anew finds one in the folder, or one that is to resume finds that it
  /// diverged.
  void check_startable(bool resume) const;
  /// Makes the folder, or removes what a run that was killed while it wrote has left in it beside its files.
  void make_folder() const;
  /// Makes log.jsonl hold these epochs and no others.
  void rewrite_log(const std::vector<EpochRecord>& epochs) const;
  void append_to_log(const EpochRecord& epoch) const;
  void write_summary(const nlohmann::json& summary) const;

 private:
  std::filesystem::path folder_;
};

}  // namespace graft::train
