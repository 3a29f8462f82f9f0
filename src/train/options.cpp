#include "train/options.h"

#include <algorithm>
#include <cmath>

#include "core/format.h"
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
  check(!o.resume || !o.out.empty(), "[train] resuming needs the folder of the run");
  if (!o.out.empty()) RunFiles(o.out).check_startable(o.resume);
}

json to_json(const TrainOptions& o) {
  json rates = json::array();
  for (const auto& [pattern, rate] : o.learning_rate_of) rates.push_back({pattern, rate});
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
               {"learning_rate_of", rates},
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

namespace {

json to_json(const Scores& s) { return {{"loss", s.loss}, {"top1", s.top1}, {"top5", s.top5}}; }
Scores scores_from_json(const json& j) { return {j.at("loss"), j.at("top1"), j.at("top5")}; }

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
  if (!a.validation || !b.validation) return a.train.loss < b.train.loss;
  if (a.validation->top1 != b.validation->top1) return a.validation->top1 > b.validation->top1;
  return a.validation->loss < b.validation->loss;
}

std::vector<optim::Group> parameter_groups(nn::Network& network, const TrainOptions& options) {
  std::map<std::string, std::size_t> group_of;  // by layer
  for (std::size_t i = 0; i < options.learning_rate_of.size(); ++i) {
    for (const std::string& layer : network.match(options.learning_rate_of[i].first))
      group_of.try_emplace(layer, i + 1);
  }
  std::vector<optim::Group> groups(options.learning_rate_of.size() + 1);
  for (const nn::Parameter* parameter : network.trainable_parameters()) {
    const auto own = group_of.find(parameter->layer);
    groups[own == group_of.end() ? 0 : own->second].parameters.push_back({parameter->name, parameter->value});
  }
  for (std::size_t i = 1; i < groups.size(); ++i) {
    const auto& [pattern, rate] = options.learning_rate_of[i - 1];
    check(!groups[i].parameters.empty(),
          "[train] '{}={}' names a learning rate for layers that are frozen, have no weights, or are named by an "
          "earlier pattern",
          pattern, rate);
    groups[i].learning_rate = rate;
  }
  return groups;
}

}  // namespace graft::train
