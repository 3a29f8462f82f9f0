#pragma once

#include <filesystem>

#include <nlohmann/json.hpp>

#include "graft/nn/network.h"

namespace graft::train {

using Tensors = std::map<std::string, Tensor>;

/// Copies of parameters by name.
Tensors snapshot(nn::Network& network, const std::vector<std::string>& names);
/// Writes values back into a network's parameters.
void restore(nn::Network& network, const Tensors& values);

/// The state of a run after an epoch.
struct Checkpoint {
  nlohmann::json facts;  ///< options, data, hashes, layers, and the records of the epochs so far
  Tensors weights = {};  ///< every parameter and statistic that training changes
  Tensors best = {};     ///< the same after the best epoch
  Tensors optimizer = {};
};

void write_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);
/// Throws Error naming the file if it is not a checkpoint.
Checkpoint read_checkpoint(const std::filesystem::path& path);

/// Throws Error, naming the file and what differs, if a checkpoint is of other options, data, frozen weights or layers
/// than `now`. A larger number of epochs may be asked for.
void check_same_run(const std::filesystem::path& path, const nlohmann::json& checkpoint, const nlohmann::json& now);
/// The versions of what computes that are not the same in a checkpoint and `now`: `oneDNN 2.6.0, now 3.1.1`. Empty if
/// all are.
std::string other_versions(const nlohmann::json& checkpoint, const nlohmann::json& now);

}  // namespace graft::train
