#include "graft/train/sweep.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "graft/nn/layers.h"
#include "graft/plan/plan.h"

#include "core/format.h"
#include "nn/batched.h"
#include "train/border.h"
#include "train/checkpoint.h"
#include "train/options.h"
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

double operations_of(const nn::Program& program) {
  double operations = 0;
  for (const nn::Program::Call& call : program.calls) {
    std::vector<Spec> in, out;
    for (const nn::Value value : call.inputs) in.push_back(program[value].spec);
    for (const nn::Value value : call.outputs) out.push_back(program[value].spec);
    operations += call.op->operations(in, out);
  }
  return operations;
}

// What is told of a layer before anything is trained.
Depth depth_of(const nn::Network& backbone, const std::string& layer) {
  const nn::Program program = program_of(backbone.cut(layer));
  return {.layer = layer, .width = program[program.output].spec.shape.channels(), .operations = operations_of(program)};
}

// What probes of these layers read.
FrozenPart probed_part(const nn::Network& backbone, const std::vector<std::string>& layers, DType dtype) {
  const nn::Program program =
      backbone.lower(nn::batched(backbone.input_shape(), 1), {.dtype = dtype, .outputs = layers, .given = {}});
  FrozenPart part{.border = layers, .operations = operations_of(program), .averaged = true};
  for (const nn::Program::Output& node : program.nodes) {
    if (node.node != backbone.nodes().front().name) part.nodes.push_back(node.node);
  }
  for (const std::string& layer : layers) {
    const Shape& shape = program[program.node(layer)].spec.shape;
    check(shape.rank() >= 2 && shape.rank() <= 4,
          "[sweep] a probe reads [N, H, W, C], [N, L, C] or [N, C], layer '{}' gives {}", layer, shape);
    part.bytes += static_cast<std::size_t>(shape.channels()) * size_of(dtype);
  }
  return part;
}

// A linear classifier on a layer's averaged values, which come as images of one pixel.
nn::Network probe_of(const nn::Network& backbone, const data::ImageFolder& photos, const Depth& depth) {
  nn::Builder b({.height = 1, .width = 1, .channels = depth.width, .name = backbone.name});
  nn::Network probe =
      b.build(b.add("head", nn::Linear({.out = static_cast<Index>(photos.classes.size()), .softmax = true}),
                    b.add("head_flat", nn::Flatten(), b.input())));
  probe.classes = photos.classes;
  probe.seed = backbone.seed;
  probe.to(backbone.device());
  return probe;
}

// The examples of another source, each batch with one value that is made of its own.
class MadeOf final : public Source {
 public:
  using Make = std::function<Tensor(const Examples&)>;
  MadeOf(std::unique_ptr<Source> source, std::string node, Make make)
      : source_(std::move(source)), node_(std::move(node)), make_(std::move(make)) {}

  const std::vector<Index>& labels() const override { return source_->labels(); }
  Index batches() const override { return source_->batches(); }
  void start_epoch(std::uint64_t epoch) override { source_->start_epoch(epoch); }
  std::optional<Examples> next() override {
    std::optional<Examples> examples = source_->next();
    if (examples) examples->values = {{node_, make_(*examples)}};
    return examples;
  }

 private:
  std::unique_ptr<Source> source_;
  std::string node_;
  Make make_;
};

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
    check_options(options.train);
    schedule_of(options.train, batches_of(train.size(), options.train));  // for its errors, before the work
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
    const TrainOptions& options = options_.train;
    const FrozenPart part = probed_part(frozen, layers_, options.precision);
    FeatureJobs jobs = feature_jobs(train_, validation_, options);
    jobs.passes *= static_cast<double>(layers_.size());
    const CachePlan plan = plan_jobs(frozen, jobs, options, {part});
    ProgressDisplay display(options.progress, options.epochs, 1);
    display.say(plan.line);
    const ComputedFeatures computed = compute_jobs(frozen, jobs, plan, options, display);
    result_.frozen_seconds = computed.seconds;
    const bool kept = !computed.stores.empty();
    for (const std::string& layer : layers_) {
      const Depth depth = depth_of(backbone_, layer);
      nn::Network network = probe_of(backbone_, train_, depth);
      const plan::Inference inference(frozen, {.dtype = options.precision, .outputs = {layer}, .given = {}});
      const auto pixels = [&](const Examples& examples) {
        const autograd::NoGrad off;
        const Tensor vectors =
            kept ? examples.values.at(layer)
                 : averaged(inference.run(values_of(examples, frozen, options.precision)).front().to(Device{}));
        return vectors.reshaped({-1, 1, 1, depth.width});
      };
      const auto source = [&](const data::ImageFolder& photos, const JobRows& rows, bool training) {
        return std::make_unique<MadeOf>(source_of(frozen, photos, jobs, rows, computed, options, training),
                                        network.nodes().front().name, pixels);
      };
      train_depth(depth, network, source(train_, jobs.train, true),
                  validation_.size() > 0 ? source(validation_, jobs.validation, false) : nullptr);
      result_.depths.back().report.features = computed.trouble.empty() ? plan.line : computed.trouble;
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
      train_depth(depth_of(backbone_, layer), network, std::move(data.train), std::move(data.validation));
      result_.depths.back().report.features = data.line;
      restore(backbone_, initial_);
    }
  }

  void train_depth(Depth depth, nn::Network& network, std::unique_ptr<Source> train,
                   std::unique_ptr<Source> validation) {
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
    const nn::LayerEntry& layer = backbone.layers()[static_cast<std::size_t>(nodes[i].layer)];
    weights |= !layer.parameters.empty();
    if (layer.layer->type() == "self_attention" && !end.empty()) ends.push_back(std::exchange(end, {}));
    if (!weights || !passes_all[i]) continue;
    const Shape& shape = program[program.node(nodes[i].name)].spec.shape;
    if (shape.rank() == 3 && nodes[i].inputs.size() > 1) end = nodes[i].name;
    if (shape.rank() != 4) continue;
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
  check(!ends.empty(), "[sweep] '{}' has no layer through which everything passes as images or tokens: name layers",
        backbone.name);
  return ends;
}

Sweep sweep(nn::Network& backbone, const data::ImageFolder& train, const data::ImageFolder& validation,
            const SweepOptions& options) {
  return Sweeper(backbone, train, validation, options).run();
}

}  // namespace graft::train
