#include "train/options.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "graft/core/context.h"
#include "graft/core/version.h"

#include "core/backend.h"
#include "core/choices.h"
#include "core/format.h"
#include "kernels/registry.h"
#include "train/run_files.h"

namespace graft::train {

using nlohmann::json;

void check_options(const TrainOptions& o) {
  check(o.epochs >= 1, "[train] expected at least one epoch, got {}", o.epochs);
  check(o.batch >= 1, "[train] expected a batch of at least 1, got {}", o.batch);
  check(o.label_smoothing >= 0 && o.label_smoothing < 1, "[train] label smoothing must be in [0, 1), got {}",
        o.label_smoothing);
  check(o.views >= 0, "[train] expected views of 0 (new ones in each epoch) or more, got {}", o.views);
  check(o.views == 0 || o.augmentation.any(),
        "[train] {} views of each photo need an augmentation, or they are all alike", o.views);
  check(o.patience >= 0, "[train] expected a patience of 0 epochs (never stop early) or more, got {}", o.patience);
  check(is_floating(o.precision), "[train] expected precision f32, bf16, f16 or f64, got {}", o.precision);
  for (const double weight : o.class_weights) {
    check(std::isfinite(weight) && weight >= 0, "[train] a class weight must be a number of 0 or more, got {}", weight);
  }
  for (const auto* values : {&o.learning_rate_of, &o.weight_decay_of}) {
    for (const auto& [pattern, value] : *values)
      check(std::isfinite(value) && value >= 0, "[train] expected a rate or decay of 0 or more for '{}', got {}",
            pattern, value);
  }
  check(!o.resume || !o.out.empty(), "[train] resuming needs the folder of the run");
  if (!o.out.empty()) RunFiles(o.out).check_startable(o.resume);
}

json to_json(const TrainOptions& o) {
  const auto by_pattern = [](const std::vector<std::pair<std::string, double>>& values) {
    json list = json::array();
    for (const auto& [pattern, value] : values) list.push_back({pattern, value});
    return list;
  };
  json options{{"epochs", o.epochs},
               {"batch", o.batch},
               {"optimizer", name(o.optimizer.algorithm)},
               {"learning_rate", o.optimizer.learning_rate},
               {"weight_decay", o.optimizer.weight_decay},
               {"momentum", o.optimizer.momentum},
               {"nesterov", o.optimizer.nesterov},
               {"beta1", o.optimizer.beta1},
               {"beta2", o.optimizer.beta2},
               {"epsilon", o.optimizer.epsilon},
               {"clip_norm", o.optimizer.clip_norm},
               {"learning_rate_of", by_pattern(o.learning_rate_of)},
               {"weight_decay_of", by_pattern(o.weight_decay_of)},
               {"schedule", name(o.schedule.kind)},
               {"schedule_total", o.schedule.total},
               {"schedule_every", o.schedule.every},
               {"schedule_decay", o.schedule.decay},
               {"schedule_last", o.schedule.last},
               {"warmup", o.schedule.warmup},
               {"label_smoothing", o.label_smoothing},
               {"class_weights", o.class_weights},
               {"patience", o.patience},
               {"seed", o.seed},
               {"augmentation", o.augmentation.to_string()},
               {"precision", name(o.precision)},
               {"cache_features", o.cache_features}};
  if (o.views > 0) options["views"] = o.views;
  return options;
}

json kernel_options_json(Device device) {
  const Context& context = Context::current();
  json options{{"engine", name(context.engine)}, {"tf32", context.allow_tf32}, {"autotune", autotunes()}};
#if GRAFT_HAS_CUDA
  if (device.kind == Device::Kind::cuda)
    options["hopper"] = context.allow_unproved || cuda::hopper_kernels() == "proved";
#else
  static_cast<void>(device);
#endif
  return options;
}

json versions_json(Device device) {
  json versions{{"graft", kVersion}};
  const Engine engine = Context::current().engine;
  if (engine != Engine::automatic && engine != Engine::library) return versions;
  if (GRAFT_HAS_ONEDNN && device.kind == Device::Kind::cpu) versions["oneDNN"] = kernels::onednn_version();
#if GRAFT_HAS_CUDNN
  if (device.kind == Device::Kind::cuda) {
    versions["cuDNN"] = kernels::cudnn_version();
    versions["cuBLAS"] = kernels::cublas_version();
  }
#endif
  return versions;
}

json layers_json(const nn::Network& network) {
  const json graph = json::parse(network.to_json());
  json layers = json::object();
  for (const nn::NodeEntry& node : network.nodes()) {
    if (node.layer < 0) continue;
    json& layer = layers[node.name] = graph.at("layers").at(static_cast<std::size_t>(node.layer));
    for (const int from : node.inputs) layer["from"].push_back(network.nodes()[static_cast<std::size_t>(from)].name);
  }
  return layers;
}

namespace {

// A loss that is not finite stands in JSON as null.
json to_json(const Scores& s) { return {{"loss", s.loss}, {"top1", s.top1}, {"top5", s.top5}}; }
Scores scores_from_json(const json& j) {
  const json& loss = j.at("loss");
  return {loss.is_null() ? std::nan("") : loss.get<double>(), j.at("top1"), j.at("top5")};
}

bool is_lower(double a, double b) { return std::isfinite(a) && !(b <= a); }

}  // namespace

json to_json(const EpochRecord& r) {
  return {{"epoch", r.epoch},          {"learning_rate", r.learning_rate},
          {"train", to_json(r.train)}, {"validation", r.validation ? to_json(*r.validation) : json()},
          {"seconds", r.seconds},      {"images_per_second", r.images_per_second}};
}

EpochRecord record_from_json(const json& j) {
  EpochRecord r;
  r.epoch = j.at("epoch");
  r.learning_rate = j.at("learning_rate");
  r.train = scores_from_json(j.at("train"));
  if (!j.at("validation").is_null()) r.validation = scores_from_json(j.at("validation"));
  r.seconds = j.at("seconds");
  r.images_per_second = j.at("images_per_second");
  return r;
}

bool is_better(const EpochRecord& a, const EpochRecord& b) {
  if (!a.validation || !b.validation) return is_lower(a.train.loss, b.train.loss);
  if (a.validation->top1 != b.validation->top1) return a.validation->top1 > b.validation->top1;
  return is_lower(a.validation->loss, b.validation->loss);
}

namespace {

using Values = std::vector<std::pair<std::string, double>>;

// The values of layers by pattern: of those that match a layer the first counts.
class ValueOf {
 public:
  ValueOf(const nn::Network& network, const Values& values, std::string_view what) : values_(values), what_(what) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      for (const std::string& layer : network.match(values[i].first)) number_of_.try_emplace(layer, i);
    }
  }

  std::optional<double> operator()(const std::string& layer) {
    const auto own = number_of_.find(layer);
    if (own == number_of_.end()) return std::nullopt;
    used_.insert(own->second);
    return values_[own->second].second;
  }

  void check_all_used() const {
    for (std::size_t i = 0; i < values_.size(); ++i) {
      check(
          used_.contains(i),
          "[train] '{}={}' names a {} for layers that are frozen, have no weights, or are named by an earlier pattern",
          values_[i].first, values_[i].second, what_);
    }
  }

 private:
  const Values& values_;
  std::string_view what_;
  std::map<std::string, std::size_t> number_of_;
  std::set<std::size_t> used_;
};

}  // namespace

std::vector<optim::Group> parameter_groups(nn::Network& network, const TrainOptions& options) {
  ValueOf rate_of(network, options.learning_rate_of, "learning rate"),
      decay_of(network, options.weight_decay_of, "weight decay");
  std::vector<optim::Group> groups(1);
  for (const nn::Parameter* parameter : network.trainable_parameters()) {
    const std::optional<double> rate = rate_of(parameter->layer), decay = decay_of(parameter->layer);
    auto group = std::find_if(groups.begin(), groups.end(), [&](const optim::Group& known) {
      return known.learning_rate == rate && known.weight_decay == decay;
    });
    if (group == groups.end())
      group = groups.insert(group, optim::Group{.parameters = {}, .learning_rate = rate, .weight_decay = decay});
    group->parameters.push_back({parameter->name, parameter->value});
  }
  rate_of.check_all_used();
  decay_of.check_all_used();
  return groups;
}

Index batches_of(Index examples, const TrainOptions& options) { return (examples + options.batch - 1) / options.batch; }

optim::Schedule schedule_of(const TrainOptions& options, Index batches) {
  optim::Schedule schedule = options.schedule;
  const Index steps = options.epochs * batches;
  if (schedule.total == 0) schedule.total = steps;
  if (schedule.every == 0) schedule.every = std::max<Index>(1, steps / 3);
  factor(schedule, schedule.warmup);  // throws if it makes no sense
  check(schedule.warmup == 0 || schedule.warmup < steps,
        "[schedule] the {} steps of {} epochs end within a warm-up of {}", steps, options.epochs, schedule.warmup);
  return schedule;
}

}  // namespace graft::train
