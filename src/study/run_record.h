#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "graft/core/dtype.h"

namespace graft::study {

/// What is left of a run in its folder: run.json, log.jsonl and, if `graft finetune` made it, data.json.
struct RunRecord {
  struct Epoch {
    double train_loss = 0, train_top1 = 0;
    std::optional<double> validation_loss = {}, validation_top1 = {};
  };

  std::filesystem::path folder;
  std::string title;
  std::string network;
  std::vector<std::string> classes;
  std::vector<Epoch> epochs;
  Index best_epoch = 0;
  double seconds = 0;
  Index parameters = 0, trainable = 0;
  std::string frozen_features;                              ///< what was decided about them
  std::vector<std::pair<std::string, std::string>> frozen;  ///< parameter, hash
  std::vector<std::vector<Index>> confusion;                ///< [on the photo][predicted]
  std::vector<std::pair<std::string, std::string>> options;
  std::vector<std::pair<std::filesystem::path, Index>> validation;  ///< photos and their classes

  const Epoch& best() const { return epochs[static_cast<std::size_t>(best_epoch - 1)]; }
  /// The name of a class, or its number.
  std::string label(Index index) const;
};

/// Throws Error naming the file if the folder is not that of a run that has finished an epoch.
RunRecord read_run(const std::filesystem::path& folder, const std::string& title);

}  // namespace graft::study
