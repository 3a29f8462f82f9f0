#pragma once

#include "core/backend.h"
#include "emulated/block.h"

namespace graft::emulated {

/// Queues a kernel in a stream of the emulated device. It runs when somebody waits for it: at the latest possible
/// moment, so that a missing wait shows.
void enqueue(void* stream, Launch launch);

/// How the emulated device runs what a GPU may run in any order. Read from the environment once:
/// GRAFT_EMULATED_SEED=7 shuffles the order of streams, blocks and threads by that seed; without it they run in the
/// order of their numbers.
std::optional<std::uint64_t> shuffle_seed();
/// The same for the rest of the process, for tests.
void set_shuffle_seed(std::optional<std::uint64_t> seed);

}  // namespace graft::emulated
