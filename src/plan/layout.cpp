#include "plan/layout.h"

#include <algorithm>
#include <set>

#include "graft/ops/shape.h"

namespace graft::plan {
namespace {

class LayingOut {
 public:
  LayingOut(const Graph& graph, const Schedule& schedule)
      : graph_(graph), schedule_(schedule), calls_(graph.calls()), readers_(graph.values().size()) {
    for (const Graph::Call& call : calls_) {
      for (const int input : call.inputs) readers_[static_cast<std::size_t>(input)].push_back(call.op.get());
    }
    for (std::size_t slot = 0; slot < schedule.slots.size(); ++slot) {
      const bool value = slot < graph.values().size();
      add_block(schedule.slots[slot], value ? graph.values()[slot].kind : Graph::Kind::result);
    }
    for (const auto& [value, gradient] : schedule.gradients) {
      if (graph.value(value).kind == Graph::Kind::trained && !schedule.hands_over) place(gradient).block = -1;
    }
    if (schedule.seed >= 0) home(place(schedule.seed).block) = Layout::Home::input;
  }

  Layout run() {
    place_parts();
    place_gradients_of_parts();
    place_parts_of_batch();
    share_views();
    find_lifetimes();
    reuse();
    drop_empty();
    return std::move(layout_);
  }

 private:
  using Kind = Instruction::Kind;

  void add_block(const Spec& spec, Graph::Kind kind) {
    const bool has_one = kind == Graph::Kind::input || kind == Graph::Kind::result;
    layout_.places.push_back({has_one ? static_cast<int>(layout_.blocks.size()) : -1, 0, spec.shape.channels()});
    if (!has_one) return;
    layout_.blocks.push_back({.bytes = bytes_of(spec)});
    layout_.homes.push_back(kind == Graph::Kind::input ? Layout::Home::input : Layout::Home::arena);
  }

  Place& place(int slot) { return layout_.places[static_cast<std::size_t>(slot)]; }
  Block& block(int index) { return layout_.blocks[static_cast<std::size_t>(index)]; }
  Layout::Home& home(int index) { return layout_.homes[static_cast<std::size_t>(index)]; }
  const Spec& spec(int slot) const { return schedule_.slots[static_cast<std::size_t>(slot)]; }

  // Calls body(part number, bytes before it) for each part of a concatenation of channels.
  template <class Body>
  void for_each_part(const Graph::Call& call, const Body& body) const {
    const auto* concat = dynamic_cast<const ops::Concat*>(call.op.get());
    const Shape& shape = spec(call.outputs.front()).shape;
    if (concat == nullptr || shape.normalize_axis(concat->axis) != shape.rank() - 1) return;
    std::size_t before = 0;
    for (std::size_t i = 0; i < call.inputs.size(); ++i) {
      body(i, before);
      before += static_cast<std::size_t>(spec(call.inputs[i]).shape.channels()) * size_of(spec(call.inputs[i]).dtype);
    }
  }

  void lie_inside(int part, int whole, std::size_t offset) {
    place(part) = {place(whole).block, place(whole).offset + offset, place(whole).pitch};
  }

  // From the last concatenation to the first, so that one that is a part of another knows where it goes.
  void place_parts() {
    for (auto call = calls_.rbegin(); call != calls_.rend(); ++call) {
      for_each_part(*call, [&](std::size_t i, std::size_t offset) {
        const int part = call->inputs[i];
        if (!can_lie_in_range(part)) return;
        lie_inside(part, call->outputs.front(), offset);
        in_range_.insert(part);
      });
    }
  }

  bool can_lie_in_range(int part) const {
    const Graph::Value& value = graph_.value(part);
    if (value.producer < 0 || value.wanted || in_range_.contains(part)) return false;
    const Graph::Call& producer = calls_[static_cast<std::size_t>(value.producer)];
    const auto& readers = readers_[static_cast<std::size_t>(part)];
    return producer.op->channel_ranges() && producer.outputs.front() == part &&
           std::all_of(readers.begin(), readers.end(), [](const Op* op) { return op->channel_ranges(); });
  }

  // Where the concatenation is the first to give a part its gradient, that is a range of the whole's.
  void place_gradients_of_parts() {
    for (const Instruction& step : schedule_.instructions) {
      if (step.kind != Kind::backward) continue;
      const Graph::Call& call = calls_[step.call];
      for_each_part(call, [&](std::size_t i, std::size_t offset) {
        if (step.dx[i] >= 0 && !step.accumulate[i] && in_range_.contains(call.inputs[i]))
          lie_inside(step.dx[i], step.dy[0], offset);
      });
    }
  }

  void place_parts_of_batch() {
    for (const PartOfBatch& part : schedule_.parts) {
      const Place& whole = place(part.whole);
      const Spec& all = spec(part.whole);
      const Index rows = part.first * (all.shape.rows() / all.shape[0]);
      lie_inside(part.slot, part.whole, static_cast<std::size_t>(rows * whole.pitch) * size_of(all.dtype));
    }
  }

  void share_views() {
    for (const Instruction& step : schedule_.instructions) {
      if ((step.kind != Kind::forward && step.kind != Kind::backward) || !calls_[step.call].op->is_view()) continue;
      const bool forward = step.kind == Kind::forward;
      if (!forward && step.accumulate[0]) continue;
      const int from = forward ? step.inputs[0] : step.dy[0], to = forward ? step.outputs[0] : step.dx[0];
      if (place(from).block < 0 || place(to).block < 0) continue;
      place(to).block = place(from).block;
      place(to).offset = place(from).offset;
    }
  }

  void find_lifetimes() {
    const int end = static_cast<int>(schedule_.instructions.size());
    for (Block& one : layout_.blocks) {
      one.first = end;
      one.last = -1;
    }
    for (int i = 0; i < end; ++i) {
      const Instruction& step = schedule_.instructions[static_cast<std::size_t>(i)];
      for (const auto* slots : {&step.inputs, &step.outputs, &step.dy, &step.dx}) {
        for (const int slot : *slots) {
          if (slot < 0 || place(slot).block < 0) continue;
          Block& one = block(place(slot).block);
          one.first = std::min(one.first, i);
          one.last = std::max(one.last, i);
        }
      }
    }
    for (std::size_t v = 0; v < graph_.values().size(); ++v) {
      const int value = static_cast<int>(v), at = place(value).block;
      if (at < 0 || !graph_.value(value).wanted) continue;
      block(at).last = end;
      if (home(at) == Layout::Home::arena) home(at) = Layout::Home::output;
    }
  }

  void reuse() {
    for (int i = 0; i < static_cast<int>(schedule_.instructions.size()); ++i) {
      const Instruction& step = schedule_.instructions[static_cast<std::size_t>(i)];
      const Op& op = op_of(graph_, step);
      if (step.kind == Kind::forward) {
        for (std::size_t k = 0; k < step.inputs.size(); ++k) {
          if (op.in_place().has(static_cast<int>(k)) && take(step.outputs[0], step.inputs[k], i)) break;
        }
      } else if (step.kind == Kind::backward) {
        for (std::size_t k = 0; k < step.dx.size(); ++k) {
          if (op.gradient_in_place().has(static_cast<int>(k)) && step.dx[k] >= 0 && !step.accumulate[k] &&
              take(step.dx[k], step.dy[0], i))
            break;
        }
      }
    }
  }

  // Moves what a step writes into the memory of what it reads, if that is possible.
  bool take(int write, int read, int step) {
    const Place to = place(write), from = place(read);
    if (to.block < 0 || from.block < 0 || to.block == from.block || spec(write) != spec(read)) return false;
    const auto whole = [&](const Place& one, int slot) {
      return home(one.block) == Layout::Home::arena && one.offset == 0 &&
             block(one.block).bytes == bytes_of(spec(slot));
    };
    if (!whole(to, write) || !whole(from, read) || block(from.block).last != step || block(to.block).first != step)
      return false;
    block(from.block).last = block(to.block).last;
    for (Place& one : layout_.places) {
      if (one.block == to.block) one.block = from.block;
    }
    return true;
  }

  // Blocks that nobody uses.
  void drop_empty() {
    std::vector<int> numbers(layout_.blocks.size(), -1);
    Layout kept;
    for (const Place& one : layout_.places) {
      kept.places.push_back(one);
      if (one.block < 0) continue;
      int& number = numbers[static_cast<std::size_t>(one.block)];
      if (number < 0 && block(one.block).last >= 0) {
        number = static_cast<int>(kept.blocks.size());
        kept.blocks.push_back(block(one.block));
        kept.homes.push_back(home(one.block));
      }
      kept.places.back().block = number;
    }
    layout_ = std::move(kept);
  }

  const Graph& graph_;
  const Schedule& schedule_;
  const std::vector<Graph::Call>& calls_;
  std::vector<std::vector<const Op*>> readers_;  // of each value
  std::set<int> in_range_;                       // values that lie in a range of channels
  Layout layout_;
};

}  // namespace

ArenaSize place(Layout& layout) {
  std::vector<Block> arena;
  for (std::size_t b = 0; b < layout.blocks.size(); ++b) {
    if (layout.homes[b] == Layout::Home::arena) arena.push_back(layout.blocks[b]);
  }
  const std::size_t bytes = place(arena);
  auto placed = arena.begin();
  for (std::size_t b = 0; b < layout.blocks.size(); ++b) {
    if (layout.homes[b] == Layout::Home::arena) layout.blocks[b].offset = placed++->offset;
  }
  return {bytes, least_memory(arena)};
}

Layout lay_out(const Graph& graph, const Schedule& schedule) { return LayingOut(graph, schedule).run(); }

}  // namespace graft::plan
