#include "train/prepare.h"

#include "core/format.h"
#include "nn/batched.h"
#include "train/options.h"

namespace graft::train {
namespace {

Index outputs(const nn::Network& network) {
  const nn::Program program = network.lower(nn::batched(network.input_shape(), 1));
  const Shape& shape = program[program.output].spec.shape;
  check(shape.rank() == 2, "[train] expected a network whose output is [N, classes], '{}' gives {}; graft a head on it",
        network.name, shape);
  return shape[1];
}

}  // namespace

data::LoaderOptions loader_options(const nn::Network& network, const TrainOptions& options, bool training) {
  return {.preprocessing = network.preprocessing,
          .batch = options.batch,
          .shuffle = training,
          .seed = options.seed,
          .augmentation = training ? options.augmentation : data::Augmentation{},
          .views = training ? options.views : 0,
          .workers = options.workers,
          .keep_bytes = network.device() != Device{}};
}

void check_classes(const nn::Network& network, const data::ImageFolder& photos) {
  const auto count = static_cast<Index>(photos.classes.size());
  const Index expected = outputs(network);
  check(count == 0 || count == expected, "[train] the data has {} classes, '{}' has {} outputs; graft a head of {}",
        count, network.name, expected, count);
  check(network.classes.empty() || photos.classes.empty() || network.classes == photos.classes,
        "[train] the network's classes ({}) are not the data's ({})", fmt::join(network.classes, ", "),
        fmt::join(photos.classes, ", "));
}

void check_labels(nn::Network& network, const Source& source, const TrainOptions& options) {
  const Index expected = outputs(network);
  for (const Index label : source.labels()) {
    check(label >= 0 && label < expected, "[train] label {} is not one of the {} outputs of '{}'", label, expected,
          network.name);
  }
  check(options.class_weights.empty() || static_cast<Index>(options.class_weights.size()) == expected,
        "[train] expected {} class weights, one an output of '{}', got {}", expected, network.name,
        options.class_weights.size());
}

std::unique_ptr<Source> source_of(const nn::Network& network, const data::ImageFolder& photos, const FeatureJobs& jobs,
                                  const JobRows& rows, const ComputedFeatures& computed, const TrainOptions& options,
                                  bool training) {
  if (rows.job < 0 || computed.stores.empty())
    return photo_source(photos, loader_options(network, options, training), network.nodes().front().name);
  return job_source(jobs, computed, rows, photos.labels,
                    {.batch = options.batch, .shuffle = training, .seed = options.seed});
}

Data prepare(nn::Network& network, const data::ImageFolder& train, const data::ImageFolder& validation,
             const TrainOptions& options, ComputedFeatures* shared) {
  check(train.size() > 0, "[train] expected photos to train on, got none");
  check_classes(network, train);
  check(validation.size() == 0 || validation.classes == train.classes,
        "[train] the validation data's classes ({}) are not those of the training data ({})",
        fmt::join(validation.classes, ", "), fmt::join(train.classes, ", "));
  schedule_of(options, batches_of(train.size(), options));  // for its errors, before the work
  const FeatureJobs jobs = feature_jobs(train, validation, options);
  const CachePlan plan = plan_jobs(network, jobs, options, frozen_cuts(network, options.precision));
  ProgressDisplay display(options.progress, options.epochs, 1);
  display.say(plan.line);
  ComputedFeatures computed =
      compute_jobs(network, jobs, plan, options, display, shared == nullptr ? ComputedFeatures{} : *shared);
  Data data;
  data.line = computed.trouble.empty() ? plan.line : computed.trouble;
  data.train = source_of(network, train, jobs, jobs.train, computed, options, true);
  if (validation.size() > 0)
    data.validation = source_of(network, validation, jobs, jobs.validation, computed, options, false);
  data.frozen_seconds = computed.seconds;
  if (shared != nullptr && !computed.stores.empty()) *shared = std::move(computed);
  return data;
}

}  // namespace graft::train
