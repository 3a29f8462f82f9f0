#pragma once

#include "common.h"

namespace graft::tools {

struct PlanTableOptions {
  Index batch = 1;
  DType dtype = DType::f32;
  bool training = false;
  std::size_t memory_limit = 0;  ///< of a training step: see plan::TrainingOptions
};

/// Compiles a network, runs the plan several times on random numbers, and says for each step which layers it computes,
/// its shortest time, and what share that is of the time that it would take at what the device reaches at best.
Json measure_plan(nn::Network network, const PlanTableOptions& options);
/// The same as a table.
void print_plan(const Json& plan);

}  // namespace graft::tools
