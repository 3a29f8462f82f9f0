#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "graft/core/dtype.h"

namespace graft::study {

/// A run that `graft finetune` or train::Trainer made, and what to call it.
struct ReportRun {
  std::filesystem::path folder;
  std::string title = {};  ///< the folder's name if empty
};

struct ReportOptions {
  std::string title = "Training report";
  std::vector<ReportRun> runs;
  /// Validation photos shown for each run, drawn evenly from all of them; where the run's data.json names them and they
  /// are still there. 0 shows none.
  Index photos = 24;
};

/// Writes one HTML page, readable in light and dark, that needs no other file: how the runs compare, and for each of
/// them the curves of loss and accuracy, the confusion matrix, photos with what the network says about them, what
/// stayed frozen, and the options.
///
/// Reads run.json and log.jsonl of each folder, and for photos data.json and best.safetensors.
/// Throws Error naming the file if a folder is not that of a run, or the page cannot be written; then no file is left.
void write_report(const ReportOptions& options, const std::filesystem::path& out);

}  // namespace graft::study
