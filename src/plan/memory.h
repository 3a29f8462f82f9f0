#pragma once

#include <cstddef>
#include <vector>

namespace graft::plan {

/// Memory that is needed from one step of a plan to another.
struct Block {
  std::size_t bytes = 0;
  int first = 0, last = 0;  ///< the steps, both included
  std::size_t offset = 0;   ///< where `place` puts it
};

/// Gives each block a place in one stretch of memory, so that blocks that are needed at the same time do not overlap,
/// and returns the bytes of the whole. The largest come first, each into the smallest gap that it fits (greedy by
/// size: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020).
std::size_t place(std::vector<Block>& blocks);
/// The most bytes that are needed at one step: no placing can do with less.
std::size_t least_memory(const std::vector<Block>& blocks);

}  // namespace graft::plan
