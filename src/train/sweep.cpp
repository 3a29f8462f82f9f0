#include "graft/train/sweep.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "graft/ops/global_pool.h"
#include "graft/plan/plan.h"

#include "core/format.h"
#include "nn/batched.h"
#include "train/border.h"
#include "train/checkpoint.h"
#include "train/prepare.h"

namespace graft::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

nn::Program program_of(const nn::Network& network) { return network.lower(nn::batched(network.input_shape(), 1)); }

// For each node, whether all that comes behind it reads nothing else of what is before.
std::vector<char> bottlenecks(const nn::Network& network) {
  const auto& nodes = network.nodes();
  std::vector<std::size_t> last_reader(nodes.size(), 0);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (const int from : nodes[i].inputs) last_reader[static_cast<std::size_t>(from)] = i;
  }
  std::vector<char> all(nodes.size(), 0);
  std::size_t furthest = 0;  // that reads a node before this one
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    all[i] = furthest <= i;
    furthest = std::max(furthest, last_reader[i]);
  }
  return all;
}

// Layers in order of computation, each once.
std::vector<std::string> in_order(const nn::Network& backbone, const std::vector<std::string>& layers) {
  std::vector<std::string> ordered;
  for (const std::string& layer : layers) static_cast<void>(backbone.cut(layer));  // throws if there is no such layer
  for (const nn::NodeEntry& node : backbone.nodes()) {
    if (std::find(layers.begin(), layers.end(), node.name) != layers.end()) ordered.push_back(node.name);
  }
  return ordered;
}

// What is told of a layer before anything is trained.
Depth depth_of(const nn::Network& backbone, const std::string& layer) {
  const nn::Network below = backbone.cut(layer);
  const nn::Program program = program_of(below);
  const Shape& shape = program[program.output].spec.shape;
  Depth depth{.layer = layer, .width = shape[shape.rank() - 1]};
  for (const nn::Program::Call& call : program.calls) {
    std::vector<Spec> in, out;
    for (const nn::Value value : call.inputs) in.push_back(program[value].spec);
    for (const nn::Value value : call.outputs) out.push_back(program[value].spec);
    depth.operations += call.op->operations(in, out);
  }
  return depth;
}

nn::Network with_head(const nn::Network& backbone, const data::ImageFolder& photos, const std::string& cut) {
  nn::Network network = backbone;
  network.graft({.classes = static_cast<Index>(photos.classes.size()),
                 .hidden = {},
                 .dropout = 0,
                 .cut = cut,
                 .class_names = photos.classes});
  network.use_statistics(nn::Statistics::moving);
  return network;
}

Index trained_weights(nn::Network& network) {
  Index count = 0;
  for (const nn::Parameter* parameter : network.trainable_parameters()) count += parameter->value.elements();
  return count;
}

// The values of all layers for all photos, as vectors, from one pass.
std::shared_ptr<const Features> pooled_features(nn::Network& backbone, const std::vector<std::string>& layers,
                                                const data::ImageFolder& photos, const TrainOptions& options,
                                                ProgressDisplay& display) {
  data::LoaderOptions once = loader_options(backbone, options, false);
  once.cache_bytes = 0;
  const auto source = photo_source(photos, once, backbone.nodes().front().name);
  FrozenPart all;
  all.border = layers;
  FeatureRows rows(layers, photos.size());
  for_each_border(backbone, all, *source, 0, options.precision,
                  [&](std::span<const Index> at, std::span<const Tensor> values) {
                    std::vector<Tensor> vectors;
                    for (const Tensor& value : values)
                      vectors.push_back(value.shape().rank() == 4 ? ops::global_average_pool(value) : value);
                    rows.put(at, vectors);
                    display.frozen(static_cast<Index>(at.size()));
                  });
  Features features = rows.take();
  features.labels = photos.labels;
  return std::make_shared<const Features>(std::move(features));
}

class Sweeper {
 public:
  Sweeper(nn::Network& backbone, const data::ImageFolder& train, const data::ImageFolder& validation,
          const SweepOptions& options)
      : backbone_(backbone), train_(train), validation_(validation), options_(options) {
    check(options.train.out.empty(), "[sweep] writes no run, but a folder is given: {}", options.train.out.string());
    check(!options.train.augmentation.any(), "[sweep] compares layers on the photos as they are, but {} is asked for",
          options.train.augmentation.to_string());
    check(train.size() > 0, "[sweep] expected photos to train on, got none");
    check(validation.size() == 0 || validation.classes == train.classes,
          "[sweep] the validation data's classes ({}) are not those of the training data ({})",
          fmt::join(validation.classes, ", "), fmt::join(train.classes, ", "));
    backbone.materialize();
    layers_ = in_order(backbone, options.layers.empty() ? block_ends(backbone) : options.layers);
    for (const nn::Parameter* parameter : backbone.parameters()) names_.push_back(parameter->name);
    initial_ = snapshot(backbone, names_);
  }

  Sweep run() {
    const auto start = Clock::now();
    result_.fine_tune = options_.fine_tune;
    if (options_.fine_tune)
      fine_tune();
    else
      probe();
    result_.seconds = seconds_since(start);
    return std::move(result_);
  }

 private:
  void probe() {
    nn::Network frozen = backbone_;
    frozen.freeze();
    ProgressDisplay display(options_.train.progress, options_.train.epochs, 1);
    display.start_frozen(train_.size() + validation_.size());
    const auto train = pooled_features(frozen, layers_, train_, options_.train, display);
    const auto validation =
        validation_.size() > 0 ? pooled_features(frozen, layers_, validation_, options_.train, display) : nullptr;
    result_.frozen_seconds = display.end_frozen();
    for (const std::string& layer : layers_) {
      nn::Network network = with_head(frozen, train_, layer);
      const std::string border = frozen_part(network, options_.train.precision).border.at(0);
      const auto source = [&](const std::shared_ptr<const Features>& all, bool training) -> std::unique_ptr<Source> {
        if (!all) return nullptr;
        auto own = std::make_shared<Features>();
        own->values[border] = all->values.at(layer);
        own->labels = all->labels;
        return memory_source(own, {.batch = options_.train.batch, .shuffle = training, .seed = options_.train.seed});
      };
      train_depth(layer, network, source(train, true), source(validation, false));
    }
  }

  void fine_tune() {
    ComputedFeatures shared;
    for (const std::string& layer : layers_) {
      nn::Network network = with_head(backbone_, train_, backbone_.output().name);
      network.unfreeze();
      const nn::Network below = backbone_.cut(layer);
      for (const nn::LayerEntry& entry : below.layers()) network.freeze(entry.name);
      Data data = prepare(network, train_, validation_, options_.train, &shared);
      result_.frozen_seconds += data.frozen_seconds;
      train_depth(layer, network, std::move(data.train), std::move(data.validation));
      result_.depths.back().report.features = data.line;
      restore(backbone_, initial_);
    }
  }

  void train_depth(const std::string& layer, nn::Network& network, std::unique_ptr<Source> train,
                   std::unique_ptr<Source> validation) {
    Depth depth = depth_of(backbone_, layer);
    depth.trained = trained_weights(network);
    try {
      depth.report = Trainer(network, std::move(train), std::move(validation), options_.train).run();
    } catch (...) {
      restore(backbone_, initial_);
      throw;
    }
    result_.depths.push_back(std::move(depth));
  }

  nn::Network& backbone_;
  const data::ImageFolder& train_;
  const data::ImageFolder& validation_;
  const SweepOptions& options_;
  std::vector<std::string> layers_, names_;
  Tensors initial_;
  Sweep result_;
};

}  // namespace

std::vector<std::string> block_ends(const nn::Network& backbone) {
  constexpr double kSmaller = 0.6;  // of the pixels: a stride of 2 leaves a quarter, a convolution without padding more
  const nn::Program program = program_of(backbone);
  const std::vector<char> passes_all = bottlenecks(backbone);
  const auto& nodes = backbone.nodes();
  std::vector<std::string> ends;
  std::string end;    // of the block so far
  double pixels = 0;  // of its values; a node that adds a margin for the next block is not its end
  bool weights = false;
  for (std::size_t i = 1; i < nodes.size(); ++i) {
    weights |= !backbone.layers()[static_cast<std::size_t>(nodes[i].layer)].parameters.empty();
    const Shape& shape = program[program.node(nodes[i].name)].spec.shape;
    if (!weights || !passes_all[i] || shape.rank() != 4) continue;
    const auto own = static_cast<double>(shape[1] * shape[2]);
    if (!end.empty() && own < kSmaller * pixels) ends.push_back(end);
    if (end.empty() || own <= pixels) {
      end = nodes[i].name;
      pixels = own;
    }
  }
  if (!end.empty()) ends.push_back(end);
  const Shape& last = program[program.output].spec.shape;
  const auto& pool = backbone.layers()[static_cast<std::size_t>(nodes.back().layer)].layer;
  if (last.rank() == 2 && pool->type() != "global_average_pool") ends.push_back(nodes.back().name);
  check(!ends.empty(), "[sweep] '{}' has no layer through which everything passes as images: name layers",
        backbone.name);
  return ends;
}

Sweep sweep(nn::Network& backbone, const data::ImageFolder& train, const data::ImageFolder& validation,
            const SweepOptions& options) {
  return Sweeper(backbone, train, validation, options).run();
}

}  // namespace graft::train
