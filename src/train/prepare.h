#pragma once

#include "graft/train/trainer.h"

#include "train/progress.h"

namespace graft::train {

/// Whether a frozen part is worth computing once, and why, in a line.
struct Caching {
  bool train = false;
  bool validation = false;  ///< no augmentation stands before validation data
  std::string line = {};
};
Caching decide_caching(const nn::Network& network, const FrozenPart& part, Index train, Index validation,
                       const TrainOptions& options);

/// The two data sets of a run.
struct Data {
  std::unique_ptr<Source> train, validation;  ///< validation may be null
  std::string line = {};                      ///< Report::features
  double frozen_seconds = 0;                  ///< Report::frozen_seconds
};
/// Photos as sources, with what is frozen computed where that was decided. Throws Error if the classes do not fit.
Data prepare(nn::Network& network, const data::ImageFolder& train, const data::ImageFolder& validation,
             const TrainOptions& options);

/// Computes the frozen part for photos and shows how far it is, between start_frozen and end_frozen of `display`.
std::shared_ptr<const Features> photo_features(nn::Network& network, const FrozenPart& part,
                                               const data::ImageFolder& photos, const TrainOptions& options,
                                               ProgressDisplay& display);

/// Throws Error unless labels and classes fit the network's outputs.
void check_classes(const nn::Network& network, const data::ImageFolder& photos);
void check_labels(nn::Network& network, const Source& source, const TrainOptions& options);

}  // namespace graft::train
