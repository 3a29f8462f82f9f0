#pragma once

#include <nlohmann/json.hpp>

#include "graft/train/trainer.h"

namespace graft::train {

/// Throws Error for options that make no sense by themselves, or with what is in the run's folder.
void check_options(const TrainOptions& options);

/// The options that decide what a run computes, for run.json, and to see whether a checkpoint belongs to them.
nlohmann::json to_json(const TrainOptions& options);
/// What a program and its machine choose kernels by, for the same use: the Context's engine and switches, whether calls
/// are measured, and on a GPU whether cuda/hopper is in use.
nlohmann::json kernel_options_json(Device device);
/// The versions of graft and of the libraries that compute on the device, for run.json, and to tell of others.
nlohmann::json versions_json(Device device);
/// What each node of a network but the input computes, and from what, for the same use.
nlohmann::json layers_json(const nn::Network& network);

nlohmann::json to_json(const EpochRecord& record);
EpochRecord record_from_json(const nlohmann::json& json);

/// Whether an epoch is better than the best so far: see Report::best_epoch.
bool is_better(const EpochRecord& a, const EpochRecord& b);

/// Parameters by their rate and decay: first those with the optimizer's own. Throws Error if a pattern matches no layer
/// that is trained.
std::vector<optim::Group> parameter_groups(nn::Network& network, const TrainOptions& options);

/// Steps of an epoch.
Index batches_of(Index examples, const TrainOptions& options);
/// The schedule of a run of so many steps an epoch, with nothing left open. Throws Error if it makes no sense.
optim::Schedule schedule_of(const TrainOptions& options, Index batches);

}  // namespace graft::train
