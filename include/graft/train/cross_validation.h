#pragma once

#include "graft/train/trainer.h"

namespace graft::train {

struct CrossValidationOptions {
  int folds = 5;
  std::vector<std::uint64_t> seeds = {0};  ///< the data are split anew by each
};

/// What cross-validation found.
struct CrossValidation {
  std::vector<double> accuracies =
      {};                     ///< one a seed: the share of all examples that were right when they were held out
  double mean = 0;            ///< of the accuracies
  double deviation = 0;       ///< their standard deviation; 0 for one seed
  std::string features = {};  ///< see Report::features
};

/// Trains once a seed and fold on the other folds, stratified by class, each time from the weights that the network has
/// now, and takes the accuracy on the fold after the last epoch. What is frozen is computed once for all of it, where
/// no augmentation stands before it and that is cheapest: see plan_caching. The network is left as it was.
///
/// Throws Error as Trainer does, if `options.out` is set, or if there are fewer examples than folds.
CrossValidation cross_validate(nn::Network& network, const data::ImageFolder& photos, const TrainOptions& options,
                               const CrossValidationOptions& cross = {});
/// The same for data in memory.
CrossValidation cross_validate(nn::Network& network, std::shared_ptr<const Features> features,
                               const TrainOptions& options, const CrossValidationOptions& cross = {});

}  // namespace graft::train
