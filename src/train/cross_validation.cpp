#include "graft/train/cross_validation.h"

#include <cmath>

#include "graft/data/split.h"

#include "core/format.h"
#include "train/checkpoint.h"
#include "train/options.h"
#include "train/prepare.h"

namespace graft::train {
namespace {

using TrainOnce = std::function<Report(const data::Split&, const TrainOptions&)>;

CrossValidation all_folds(nn::Network& network, const std::vector<Index>& labels, TrainOptions options,
                          const CrossValidationOptions& cross, const TrainOnce& train) {
  check(options.out.empty(), "[cross-validation] writes no run, but a folder is given: {}", options.out.string());
  check(!cross.seeds.empty(), "[cross-validation] expected at least one seed for the folds, got none");
  options.progress = Progress::none;
  std::vector<std::string> names;
  for (const nn::Parameter* parameter : network.parameters()) names.push_back(parameter->name);
  const auto hashes = frozen_hashes(network);
  std::erase_if(names, [&](const std::string& name) { return hashes.contains(name); });
  const Tensors initial = snapshot(network, names);

  CrossValidation result;
  for (const std::uint64_t seed : cross.seeds) {
    Index right = 0;
    for (const data::Split& split : data::stratified_folds(labels, cross.folds, seed)) {
      const Report report = train(split, options);
      restore(network, initial);
      for (std::size_t c = 0; c < report.confusion.size(); ++c) right += report.confusion[c][c];
    }
    result.accuracies.push_back(static_cast<double>(right) / static_cast<double>(labels.size()));
    result.mean += result.accuracies.back() / static_cast<double>(cross.seeds.size());
  }
  for (const double accuracy : result.accuracies)
    result.deviation += (accuracy - result.mean) * (accuracy - result.mean);
  const auto others = static_cast<double>(result.accuracies.size()) - 1;
  result.deviation = others > 0 ? std::sqrt(result.deviation / others) : 0;
  return result;
}

}  // namespace

CrossValidation cross_validate(nn::Network& network, std::shared_ptr<const Features> features,
                               const TrainOptions& options, const CrossValidationOptions& cross) {
  return all_folds(network, features->labels, options, cross, [&](const data::Split& split, const TrainOptions& fold) {
    return Trainer(network,
                   memory_source(features, split.train, {.batch = fold.batch, .shuffle = true, .seed = fold.seed}),
                   memory_source(features, split.validation, {.batch = fold.batch}), fold)
        .run();
  });
}

CrossValidation cross_validate(nn::Network& network, const data::ImageFolder& photos, const TrainOptions& options,
                               const CrossValidationOptions& cross) {
  // For their errors, before the work.
  check_options(options);
  check_classes(network, photos);
  parameter_groups(network, options);
  const data::Split first = data::stratified_folds(photos.labels, cross.folds, 0).front();
  schedule_of(options, batches_of(std::ssize(first.train), options));

  FeatureJobs jobs = feature_jobs(photos, {}, options);
  if (options.augmentation.any()) jobs = {};  // every fold counts its photos anew, so each would change them otherwise
  jobs.passes = static_cast<double>(options.epochs * cross.folds) * static_cast<double>(cross.seeds.size());
  const CachePlan plan = plan_jobs(network, jobs, options, frozen_cuts(network, options.precision));
  ProgressDisplay display(options.progress, options.epochs, 1);
  display.say(plan.line);
  const ComputedFeatures computed = compute_jobs(network, jobs, plan, options, display);
  const auto train = [&](const data::Split& split, TrainOptions fold) {
    if (computed.stores.empty()) {
      fold.cache_folder.clear();  // folds are not met again
      return Trainer(network, photos.select(split.train), photos.select(split.validation), fold).run();
    }
    const auto source = [&](const std::vector<Index>& examples, const BatchOptions& batch) {
      JobRows rows{jobs.train.job, {}};
      std::vector<Index> labels;
      for (const Index example : examples) {
        rows.rows.push_back(jobs.train.rows[static_cast<std::size_t>(example)]);
        labels.push_back(photos.labels[static_cast<std::size_t>(example)]);
      }
      return job_source(jobs, computed, rows, std::move(labels), batch);
    };
    return Trainer(network, source(split.train, {.batch = fold.batch, .shuffle = true, .seed = fold.seed}),
                   source(split.validation, {.batch = fold.batch}), fold)
        .run();
  };
  CrossValidation result = all_folds(network, photos.labels, options, cross, train);
  result.features = computed.trouble.empty() ? plan.line : computed.trouble;
  return result;
}

}  // namespace graft::train
