#include "train/prepare.h"

#include <algorithm>

#include "core/format.h"

namespace graft::train {
namespace {

Index outputs(const nn::Network& network) {
  std::vector<Index> extents{1};
  extents.insert(extents.end(), network.input_shape().begin(), network.input_shape().end());
  const nn::Program program = network.lower(Shape{std::span<const Index>(extents)});
  const Shape& shape = program[program.output].spec.shape;
  check(shape.rank() == 2, "[train] expected a network whose output is [N, classes], '{}' gives {}; graft a head on it",
        network.name, shape);
  return shape[1];
}

data::LoaderOptions loader_options(const nn::Network& network, const TrainOptions& options, bool training) {
  return {.preprocessing = network.preprocessing,
          .batch = options.batch,
          .shuffle = training,
          .seed = options.seed,
          .augmentation = training ? options.augmentation : data::Augmentation{},
          .workers = options.workers,
          .keep_bytes = network.device() != Device{}};
}

std::string size_text(std::size_t bytes) {
  const auto number = static_cast<double>(bytes);
  return bytes < (std::size_t{1} << 20) ? fmt::format("{:.1f} KiB", number / 1024)
                                        : fmt::format("{:.1f} MiB", number / (1 << 20));
}

}  // namespace

Caching decide_caching(const nn::Network& network, const FrozenPart& part, Index train, Index validation,
                       const TrainOptions& options) {
  if (part.nodes.empty())
    return {.line = "nothing is frozen before the first trainable layer: every step runs the whole network"};
  const std::string what = fmt::format("the frozen part ({} of {} layers, up to '{}')", part.nodes.size(),
                                       network.nodes().size() - 1, fmt::join(part.border, "', '"));
  if (!options.cache_features) return {.line = fmt::format("{} runs in every step, as asked", what)};
  const bool random = options.augmentation.any();
  const Index examples = (random ? 0 : train) + validation;
  const std::size_t bytes = part.bytes * static_cast<std::size_t>(examples);
  const std::string reason = "augmentation changes the training photos";
  if (bytes > options.cache_bytes) {
    return {.line =
                fmt::format("{} runs in every step: its values for {} photos would take {} of memory, allowed are {}",
                            what, examples, size_text(bytes), size_text(options.cache_bytes))};
  }
  if (random && validation == 0) return {.line = fmt::format("{} runs in every step: {}", what, reason)};
  return {.train = !random,
          .validation = validation > 0,
          .line = fmt::format("{} {} {} photos and kept in {}: {:.2f} GFLOP a photo saved in every epoch{}", what,
                              random ? "is computed once for the" : "is computed once for", examples, size_text(bytes),
                              part.operations * 1e-9,
                              random ? fmt::format("; for training it runs in every step, since {}", reason) : "")};
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

std::shared_ptr<const Features> photo_features(nn::Network& network, const FrozenPart& part,
                                               const data::ImageFolder& photos, const TrainOptions& options,
                                               ProgressDisplay& display) {
  data::LoaderOptions once = loader_options(network, options, false);
  once.cache_bytes = 0;
  const auto source = photo_source(photos, once, network.nodes().front().name);
  return std::make_shared<const Features>(
      frozen_features(network, part, *source, options.precision, [&](Index examples) { display.frozen(examples); }));
}

Data prepare(nn::Network& network, const data::ImageFolder& train, const data::ImageFolder& validation,
             const TrainOptions& options) {
  check(train.size() > 0, "[train] expected photos to train on, got none");
  check_classes(network, train);
  check(validation.size() == 0 || validation.classes == train.classes,
        "[train] the validation data's classes ({}) are not those of the training data ({})",
        fmt::join(validation.classes, ", "), fmt::join(train.classes, ", "));
  const FrozenPart part = frozen_part(network, options.precision);
  const Caching caching = decide_caching(network, part, train.size(), validation.size(), options);
  ProgressDisplay display(options.progress, options.epochs, 1);
  display.say(caching.line);
  const auto source = [&](const data::ImageFolder& photos, bool cached, bool training) {
    if (!cached) return photo_source(photos, loader_options(network, options, training), network.nodes().front().name);
    return memory_source(photo_features(network, part, photos, options, display),
                         {.batch = options.batch, .shuffle = training, .seed = options.seed});
  };
  Data data;
  data.line = caching.line;
  display.start_frozen((caching.train ? train.size() : 0) + (caching.validation ? validation.size() : 0));
  data.train = source(train, caching.train, true);
  if (validation.size() > 0) data.validation = source(validation, caching.validation, false);
  data.frozen_seconds = display.end_frozen();
  return data;
}

}  // namespace graft::train
