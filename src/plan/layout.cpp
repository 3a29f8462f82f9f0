#include "plan/layout.h"

#include <algorithm>

#include "graft/ops/shape.h"

namespace graft::plan {
namespace {

std::size_t bytes_of(const Spec& spec) { return static_cast<std::size_t>(spec.shape.elements()) * size_of(spec.dtype); }

class LayingOut {
 public:
  explicit LayingOut(const Graph& graph) : graph_(graph), calls_(graph.calls()), readers_(graph.values().size()) {
    for (const Graph::Call& call : calls_) {
      for (const int input : call.inputs) readers_[static_cast<std::size_t>(input)].push_back(call.op.get());
    }
    for (const Graph::Value& value : graph.values()) {
      const bool constant = value.kind == Graph::Kind::constant;
      layout_.places.push_back(
          {constant ? -1 : static_cast<int>(layout_.blocks.size()), 0, value.spec.shape.channels()});
      if (constant) continue;
      layout_.blocks.push_back({.bytes = bytes_of(value.spec)});
      layout_.homes.push_back(value.kind == Graph::Kind::input ? Layout::Home::input : Layout::Home::arena);
    }
  }

  Layout run() {
    place_parts();
    share_views();
    find_lifetimes();
    reuse_inputs();
    drop_empty();
    return std::move(layout_);
  }

 private:
  Place& place(int value) { return layout_.places[static_cast<std::size_t>(value)]; }
  Block& block(int index) { return layout_.blocks[static_cast<std::size_t>(index)]; }
  Layout::Home& home(int index) { return layout_.homes[static_cast<std::size_t>(index)]; }
  bool wanted(int value) const {
    return graph_.value(value).uses > std::ssize(readers_[static_cast<std::size_t>(value)]);
  }

  // From the last concatenation to the first, so that one that is a part of another knows where it goes.
  void place_parts() {
    for (auto call = calls_.rbegin(); call != calls_.rend(); ++call) {
      const auto* concat = dynamic_cast<const ops::Concat*>(call->op.get());
      const int whole = call->outputs.front();
      const Spec& spec = graph_.value(whole).spec;
      if (concat == nullptr || spec.shape.normalize_axis(concat->axis) != spec.shape.rank() - 1) continue;
      std::size_t offset = place(whole).offset;
      for (const int part : call->inputs) {
        if (can_lie_in_range(part)) {
          place(part) = {place(whole).block, offset, place(whole).pitch};
          placed_.push_back(part);
        }
        offset += static_cast<std::size_t>(graph_.value(part).spec.shape.channels()) * size_of(spec.dtype);
      }
    }
  }

  bool can_lie_in_range(int part) const {
    const Graph::Value& value = graph_.value(part);
    if (value.producer < 0 || wanted(part) || std::find(placed_.begin(), placed_.end(), part) != placed_.end())
      return false;
    const Graph::Call& producer = calls_[static_cast<std::size_t>(value.producer)];
    const auto& readers = readers_[static_cast<std::size_t>(part)];
    return producer.op->channel_ranges() && producer.outputs.front() == part &&
           std::all_of(readers.begin(), readers.end(), [](const Op* op) { return op->channel_ranges(); });
  }

  void share_views() {
    for (const Graph::Call& call : calls_) {
      if (!call.op->is_view() || place(call.inputs[0]).block < 0) continue;
      place(call.outputs[0]).block = place(call.inputs[0]).block;
      place(call.outputs[0]).offset = place(call.inputs[0]).offset;
    }
  }

  void find_lifetimes() {
    const int end = static_cast<int>(calls_.size());
    for (Block& one : layout_.blocks) {
      one.first = end;
      one.last = -1;
    }
    const auto live = [&](int value, int step) {
      if (place(value).block < 0) return;
      Block& one = block(place(value).block);
      one.first = std::min(one.first, step);
      one.last = std::max(one.last, step);
    };
    for (int i = 0; i < end; ++i) {
      for (const int input : calls_[static_cast<std::size_t>(i)].inputs) live(input, i);
      for (const int output : calls_[static_cast<std::size_t>(i)].outputs) live(output, i);
    }
    for (std::size_t v = 0; v < graph_.values().size(); ++v) {
      const int value = static_cast<int>(v), at = place(value).block;
      if (at < 0 || !wanted(value)) continue;
      block(at).last = end;
      if (home(at) == Layout::Home::arena) home(at) = Layout::Home::output;
    }
  }

  void reuse_inputs() {
    for (int i = 0; i < static_cast<int>(calls_.size()); ++i) {
      const Graph::Call& call = calls_[static_cast<std::size_t>(i)];
      const int output = call.outputs.front();
      for (std::size_t k = 0; k < call.inputs.size(); ++k) {
        const int input = call.inputs[k];
        if (!call.op->in_place().has(static_cast<int>(k)) || !can_take(output, input, i)) continue;
        const int from = place(output).block, to = place(input).block;
        block(to).last = block(from).last;
        for (Place& one : layout_.places) {
          if (one.block == from) one.block = to;
        }
        break;
      }
    }
  }

  bool can_take(int output, int input, int step) {
    const Place &to = place(output), &from = place(input);
    if (from.block < 0 || to.block == from.block || graph_.value(output).spec != graph_.value(input).spec) return false;
    const auto whole = [&](const Place& one, int value) {
      return home(one.block) == Layout::Home::arena && one.offset == 0 &&
             block(one.block).bytes == bytes_of(graph_.value(value).spec);
    };
    return whole(to, output) && whole(from, input) && block(from.block).last == step && block(to.block).first == step;
  }

  // Blocks that nobody uses any more.
  void drop_empty() {
    std::vector<int> numbers(layout_.blocks.size(), -1);
    Layout kept;
    for (const Place& one : layout_.places) {
      kept.places.push_back(one);
      if (one.block < 0 || block(one.block).last < 0) {
        kept.places.back().block = -1;
        continue;
      }
      int& number = numbers[static_cast<std::size_t>(one.block)];
      if (number < 0) {
        number = static_cast<int>(kept.blocks.size());
        kept.blocks.push_back(block(one.block));
        kept.homes.push_back(home(one.block));
      }
      kept.places.back().block = number;
    }
    layout_ = std::move(kept);
  }

  const Graph& graph_;
  const std::vector<Graph::Call>& calls_;
  std::vector<std::vector<const Op*>> readers_;  // of each value
  std::vector<int> placed_;
  Layout layout_;
};

}  // namespace

Layout lay_out(const Graph& graph) { return LayingOut(graph).run(); }

}  // namespace graft::plan
