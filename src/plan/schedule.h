#pragma once

#include <optional>

#include "plan/graph.h"

namespace graft::plan {

/// One thing that a plan does. Operands are slots: the values of the graph, and their gradients behind them; -1 is one
/// that is not there.
struct Instruction {
  enum class Kind : std::uint8_t {
    forward,
    again,  ///< forward once more, by `op`: a value that was not kept for the backward
    backward,
    zero,      ///< outputs[0] = 0
    add,       ///< outputs[0] += inputs[0]
    hand_over  ///< inputs[0], the gradient of the parameter outputs[0], is complete
  };
  Kind kind = Kind::forward;
  std::size_t call = 0;
  std::vector<int> inputs, outputs;  ///< of backward, those that it reads
  std::vector<int> dy = {}, dx = {};
  std::vector<char> accumulate = {};       ///< for each of dx
  std::shared_ptr<const Op> op = nullptr;  ///< what computes it, if it is not the call's own
  std::optional<std::size_t> before = {};  ///< a call before this one that `op` computes too
};

/// What an instruction runs.
inline const Op& op_of(const Graph& graph, const Instruction& instruction) {
  return instruction.op ? *instruction.op : *graph.calls()[instruction.call].op;
}

/// A slot that holds some images of another one, from image `first` on.
struct PartOfBatch {
  int slot, whole;
  Index first;
};

/// What a plan does, in its order.
struct Schedule {
  std::vector<Spec> slots;
  std::vector<PartOfBatch> parts;
  std::vector<Instruction> instructions;
  std::size_t rounds = 1,
              in_round = 0;      ///< the first instructions: the same steps for one part of the batch, then the next
  int seed = -1;                 ///< the slot of d(loss)/d(loss), which comes from outside
  std::map<int, int> gradients;  ///< the slot of the gradient of each value that has one
  std::size_t again = 0;         ///< values that are computed again for the backward
  bool hands_over = false;       ///< gradients of parameters lie in the plan's memory, until they are handed over
};

/// The number of an instruction's step, the same in each round.
inline std::size_t step_of(const Schedule& schedule, std::size_t instruction) {
  const std::size_t all_rounds = schedule.rounds * schedule.in_round;
  return instruction < all_rounds ? instruction % schedule.in_round : instruction - all_rounds + schedule.in_round;
}

/// How the first `calls` take a batch: in `count` rounds, each of some images.
struct Rounds {
  std::size_t calls = 0;
  Index count = 1;
};
/// Rounds of so few images that what a call reads and writes stays in half of a cache of `cache_bytes`, up to where
/// weights that are read once a round outweigh that. One round where a whole batch stays there, or not a single image.
Rounds choose_rounds(const Graph& graph, std::size_t cache_bytes);
/// Every call once, the first ones once a round.
Schedule schedule_forward(const Graph& graph, const Rounds& rounds = {});
/// Every call, and from the loss backwards the gradient of every trained value. A call whose inputs need no gradient
/// has no backward and keeps nothing for one. With `hand_over` a parameter's gradient is handed over once it is
/// complete, else it is kept. Of the values that a backward reads, up to `again` of those that are cheap to compute are
/// computed once more instead of kept, the largest first.
Schedule schedule_training(const Graph& graph, int loss, bool hand_over, std::size_t again = 0);
/// A convolution that nobody reads but a norm with the batch's statistics is computed with the norm, by one
/// ops::Conv2dBatchNorm. Their backwards stay two.
void join_norms(const Graph& graph, Schedule& schedule);

}  // namespace graft::plan
