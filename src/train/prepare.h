#pragma once

#include "graft/train/trainer.h"

#include "train/feature_jobs.h"

namespace graft::train {

/// The two data sets of a run.
struct Data {
  std::unique_ptr<Source> train, validation;  ///< validation may be null
  std::string line = {};                      ///< Report::features
  double frozen_seconds = 0;                  ///< Report::frozen_seconds
  /// What tells photos from others when a run is resumed; empty for data that are none, or a run that writes nothing.
  std::string train_hash = {}, validation_hash = {};
};
/// Photos as sources, with what is frozen computed where that was decided: from the values in `shared`, if they help,
/// and the new ones are left there. Throws Error if the classes do not fit.
Data prepare(nn::Network& network, const data::ImageFolder& train, const data::ImageFolder& validation,
             const TrainOptions& options, ComputedFeatures* shared = nullptr);

/// The photos of a data set: what was computed of them, or else they themselves.
std::unique_ptr<Source> source_of(const nn::Network& network, const data::ImageFolder& photos, const FeatureJobs& jobs,
                                  const JobRows& rows, const ComputedFeatures& computed, const TrainOptions& options,
                                  bool training);

/// How a run reads photos, for training or for what must not change them.
data::LoaderOptions loader_options(const nn::Network& network, const TrainOptions& options, bool training);

/// Throws Error unless labels and classes fit the network's outputs.
void check_classes(const nn::Network& network, const data::ImageFolder& photos);
void check_labels(nn::Network& network, const Source& source, const TrainOptions& options);

}  // namespace graft::train
