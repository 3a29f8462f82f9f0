#pragma once

#include "plan/graph.h"
#include "plan/memory.h"
#include "plan/schedule.h"

namespace graft::plan {

/// Where a slot lies: in a block of memory that others may share.
struct Place {
  int block = -1;          ///< -1: a parameter or its gradient, which lies where its tensor is
  std::size_t offset = 0;  ///< in bytes
  Index pitch = 0;         ///< as in Operand
};

/// Where all slots lie.
struct Layout {
  enum class Home : std::uint8_t {
    arena,  ///< memory of the plan
    input,  ///< given from outside
    output  ///< handed out
  };

  std::vector<Place> places;  ///< of each slot
  std::vector<Block> blocks;
  std::vector<Home> homes;  ///< of each block
};

struct ArenaSize {
  std::size_t bytes = 0, least = 0;
};
/// Gives the blocks of the plan's own memory their offsets, and returns its bytes, and the most that are alive at once.
ArenaSize place(Layout& layout);

/// Lays the slots out: a view lies where its input does, parts of a concatenation where they go, and an op's result in
/// the memory of an input that nobody reads any more, where the op can do that; so do their gradients. Blocks have
/// their lifetimes, counted in instructions, but no offsets yet.
Layout lay_out(const Graph& graph, const Schedule& schedule);

}  // namespace graft::plan
