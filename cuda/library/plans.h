#pragma once

#include <initializer_list>
#include <memory>
#include <optional>

#include "graft/core/context.h"

#include "library/operation_graph.h"

// Plans: an OperationGraph with the engine that runs it. They are made at a call's first time and kept for the process,
// by device and graph. cuDNN's heuristics choose the engine. With GRAFT_AUTOTUNE=1 in the environment the first few
// that they propose are measured instead, and the fastest is kept on disk, where it is found in later runs.
namespace graft::cudnn {

struct Plan;

/// Null if cuDNN has no engine for the graph, or if there is none to begin with.
std::shared_ptr<const Plan> plan_for(const Context& context, const std::optional<OperationGraph>& graph);

/// Queues a plan in the Context's stream. `addresses` are those of the graph's values in memory, in the order in which
/// they were added; null ones, of operands that are not there, are left out. `name` is what launch_counts() calls it.
void run(const Context& context, const char* name, const Plan& plan, std::initializer_list<const void*> addresses);

}  // namespace graft::cudnn
