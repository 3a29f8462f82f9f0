#include "plan/schedule.h"

#include <algorithm>
#include <set>

#include "graft/ops/activation.h"
#include "graft/ops/arithmetic.h"
#include "graft/ops/conv2d_batch_norm.h"
#include "graft/ops/depthwise_conv2d.h"
#include "graft/ops/pool.h"
#include "graft/ops/shape.h"

namespace graft::plan {
namespace {

// Takes outputs that nobody reads from those ops that can do without them.
void leave_out_unread(const Graph& graph, Schedule& schedule) {
  std::set<int> read;
  for (const Instruction& instruction : schedule.instructions) {
    read.insert(instruction.inputs.begin(), instruction.inputs.end());
    if (instruction.kind == Instruction::Kind::backward)
      read.insert(instruction.outputs.begin(), instruction.outputs.end());
  }
  for (Instruction& instruction : schedule.instructions) {
    if (instruction.kind != Instruction::Kind::forward) continue;
    const Slots optional = graph.calls()[instruction.call].op->optional_outputs();
    for (std::size_t i = 0; i < instruction.outputs.size(); ++i) {
      if (optional.has(static_cast<int>(i)) && !read.contains(instruction.outputs[i])) instruction.outputs[i] = -1;
    }
  }
}

Schedule all_forward(const Graph& graph) {
  Schedule schedule;
  for (const Graph::Value& value : graph.values()) schedule.slots.push_back(value.spec);
  for (std::size_t i = 0; i < graph.calls().size(); ++i) {
    const Graph::Call& call = graph.calls()[i];
    schedule.instructions.push_back({Instruction::Kind::forward, i, call.inputs, call.outputs});
  }
  return schedule;
}

// Whether an op computes each image from that image alone, and is the same for any number of them.
bool goes_image_by_image(const Op& op) {
  const auto is = [&]<class... Ops>() { return ((dynamic_cast<const Ops*>(&op) != nullptr) || ...); };
  return is.operator()<ops::Activate, ops::Arithmetic, ops::AveragePool, ops::Conv2d, ops::DepthwiseConv2d,
                       ops::MaxPool, ops::Pad>();
}

// Makes the first calls of a schedule rounds, each for some images of the batch.
class InRounds {
 public:
  InRounds(const Graph& graph, const Rounds& rounds) : graph_(graph), rounds_(rounds) {
    for (std::size_t i = rounds.calls; i < graph.calls().size(); ++i) {
      const auto& inputs = graph.calls()[i].inputs;
      read_later_.insert(inputs.begin(), inputs.end());
    }
  }

  void rewrite(Schedule& schedule) const {
    const Index batch = graph_.value(graph_.calls().front().outputs.front()).spec.shape[0];
    std::vector<Instruction> all;
    for (Index round = 0; round < rounds_.count; ++round) {
      const Index first = batch * round / rounds_.count, end = batch * (round + 1) / rounds_.count;
      std::map<int, int> part_of;  // the slot of each value's part in this round
      const auto take_part = [&](int& slot) {
        const Graph::Value& value = graph_.value(slot);
        if (value.kind == Graph::Kind::constant) return;
        const auto [known, is_new] = part_of.try_emplace(slot, static_cast<int>(schedule.slots.size()));
        if (is_new) {
          Spec spec = value.spec;
          spec.shape = spec.shape.with(0, end - first);
          schedule.slots.push_back(spec);
          if (value.kind == Graph::Kind::input || value.wanted || read_later_.contains(slot))
            schedule.parts.push_back({known->second, slot, first});
        }
        slot = known->second;
      };
      for (std::size_t i = 0; i < rounds_.calls; ++i) {
        Instruction step = schedule.instructions[i];
        for (int& slot : step.inputs) take_part(slot);
        for (int& slot : step.outputs) take_part(slot);
        all.push_back(std::move(step));
      }
    }
    schedule.rounds = static_cast<std::size_t>(rounds_.count);
    schedule.in_round = rounds_.calls;
    all.insert(all.end(), schedule.instructions.begin() + static_cast<std::ptrdiff_t>(rounds_.calls),
               schedule.instructions.end());
    schedule.instructions = std::move(all);
  }

 private:
  const Graph& graph_;
  Rounds rounds_;
  std::set<int> read_later_;  // values that calls behind the rounds read
};

// A norm with the batch's statistics takes the mean out of what it reads, and with it what a bias has added: the bias'
// gradient is zero, but for what rounding would make of a sum over all pixels.
bool takes_mean(const Op& op) {
  const auto* norm = dynamic_cast<const ops::BatchNorm*>(&op);
  return norm != nullptr && norm->options.statistics == ops::Statistics::batch;
}

// The number of the input that is added to each pixel of a convolution's result, -1 without one.
int bias_of(const Op& op) {
  constexpr int kBias = 2;
  if (const auto* convolution = dynamic_cast<const ops::Conv2d*>(&op))
    return convolution->has_bias && convolution->options.activation == Activation::linear ? kBias : -1;
  if (const auto* depthwise = dynamic_cast<const ops::DepthwiseConv2d*>(&op))
    return depthwise->has_bias && depthwise->options.activation == Activation::linear ? kBias : -1;
  return -1;
}

class Backward {
 public:
  Backward(const Graph& graph, int loss)
      : graph_(graph), schedule_(all_forward(graph)), needed_(graph.need_gradients()) {
    schedule_.seed = slot_of_gradient(loss);
    written_.insert(schedule_.seed);
    for (std::size_t call = graph.calls().size(); call-- > 0;) add(call);
  }

  Schedule take() { return std::move(schedule_); }

 private:
  bool needed(int value) const { return needed_[static_cast<std::size_t>(value)]; }

  int slot_of_gradient(int value) {
    const auto [entry, is_new] = schedule_.gradients.try_emplace(value, static_cast<int>(schedule_.slots.size()));
    if (is_new) schedule_.slots.push_back(graph_.value(value).spec);
    return entry->second;
  }

  // Unless something is there already.
  void zero(std::size_t index, int slot) {
    if (written_.insert(slot).second) schedule_.instructions.push_back({Instruction::Kind::zero, index, {}, {slot}});
  }

  void add(std::size_t index) {
    const Graph::Call& call = graph_.calls()[index];
    const auto results = std::span(call.outputs).first(static_cast<std::size_t>(call.op->results()));
    const bool reached = std::any_of(results.begin(), results.end(),
                                     [this](int result) { return schedule_.gradients.contains(result); });
    const int bias = centred_.contains(call.outputs[0]) ? bias_of(*call.op) : -1;
    Slots wanted;
    for (std::size_t i = 0; reached && i < call.inputs.size(); ++i) {
      if (!needed(call.inputs[i])) continue;
      if (static_cast<int>(i) == bias)
        zero(index, slot_of_gradient(call.inputs[i]));
      else
        wanted.add(static_cast<int>(i));
    }
    if (!wanted.any()) return;
    if (takes_mean(*call.op) && graph_.only_read_once(call.inputs[0]) != nullptr) centred_.insert(call.inputs[0]);

    const Saves saves = call.op->saves(wanted);
    Instruction step{
        .kind = Instruction::Kind::backward, .call = index, .inputs = call.inputs, .outputs = call.outputs};
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
      if (!saves.inputs.has(static_cast<int>(i))) step.inputs[i] = -1;
    }
    for (std::size_t i = 0; i < step.outputs.size(); ++i) {
      if (!saves.outputs.has(static_cast<int>(i))) step.outputs[i] = -1;
    }
    for (const int result : results) {
      step.dy.push_back(slot_of_gradient(result));
      zero(index, step.dy.back());
    }
    std::vector<Instruction> sums;
    for (std::size_t i = 0; i < call.inputs.size(); ++i) {
      step.dx.push_back(wanted.has(static_cast<int>(i)) ? slot_of_gradient(call.inputs[i]) : -1);
      step.accumulate.push_back(0);
      if (step.dx.back() < 0) continue;
      const bool twice = std::count(step.dx.begin(), step.dx.end() - 1, step.dx.back()) > 0;
      if (twice) {  // an op may fill its destinations in any order, so the second one is added afterwards
        const int own = static_cast<int>(schedule_.slots.size());
        schedule_.slots.push_back(graph_.value(call.inputs[i]).spec);
        sums.push_back({Instruction::Kind::add, index, {own}, {step.dx.back()}});
        step.dx.back() = own;
      } else {
        step.accumulate.back() = !written_.insert(step.dx.back()).second;
      }
    }
    schedule_.instructions.push_back(std::move(step));
    schedule_.instructions.insert(schedule_.instructions.end(), sums.begin(), sums.end());
  }

  const Graph& graph_;
  Schedule schedule_;
  std::vector<char> needed_;
  std::set<int> written_;  // slots that hold a gradient already
  std::set<int> centred_;  // values from which their only reader takes the mean of each channel
};

// Values that are not kept from forward to backward, but computed again before the first backward that reads them.
class Recomputing {
 public:
  Recomputing(const Graph& graph, Schedule& schedule) : graph_(graph), schedule_(schedule) {
    const int end = static_cast<int>(schedule.instructions.size());
    for (int i = 0; i < end; ++i) {
      const Instruction& step = schedule.instructions[static_cast<std::size_t>(i)];
      if (step.kind != Instruction::Kind::backward) continue;
      for (const auto* slots : {&step.inputs, &step.outputs}) {
        for (const int slot : *slots) {
          if (slot < 0) continue;
          reads_.try_emplace(slot, Reads{i, i});
          reads_[slot].last = i;
        }
      }
    }
    // Whoever shares the memory of another value would keep it.
    for (const Graph::Call& call : graph.calls()) {
      if (!call.op->is_view() && call.op->name() != "concat") continue;
      shares_.insert(call.inputs.begin(), call.inputs.end());
      shares_.insert(call.outputs.begin(), call.outputs.end());
    }
  }

  void run(std::size_t most) {
    std::vector<std::size_t> calls;
    for (std::size_t i = 0; i < graph_.calls().size(); ++i) {
      if (graph_.calls()[i].op->again() != nullptr) calls.push_back(i);
    }
    const auto bytes = [&](std::size_t i) { return bytes_of(graph_.value(graph_.calls()[i].outputs[0]).spec); };
    std::stable_sort(calls.begin(), calls.end(), [&](std::size_t a, std::size_t b) { return bytes(a) > bytes(b); });
    for (const std::size_t i : calls) {
      if (chosen_.size() < most && can_be_made_again(graph_.calls()[i])) choose(i);
    }
    insert();
    schedule_.again = chosen_.size();
  }

 private:
  struct Reads {
    int first, last;  // the backward instructions
  };

  // What it is computed from is there still, and is itself kept.
  bool can_be_made_again(const Graph::Call& call) const {
    const int value = call.outputs[0];
    const auto own = reads_.find(value);
    if (own == reads_.end() || shares_.contains(value) || needed_.contains(value)) return false;
    const auto is_there = [&](int other) {
      if (graph_.value(other).kind != Graph::Kind::result) return true;
      const auto reads = reads_.find(other);
      return reads != reads_.end() && reads->second.last >= own->second.first && !dropped_.contains(other);
    };
    return !graph_.value(value).wanted && std::all_of(call.inputs.begin(), call.inputs.end(), is_there) &&
           std::all_of(call.outputs.begin() + 1, call.outputs.end(), is_there);
  }

  void choose(std::size_t index) {
    const Graph::Call& call = graph_.calls()[index];
    dropped_.insert(call.outputs[0]);
    needed_.insert(call.inputs.begin(), call.inputs.end());
    chosen_.emplace(reads_.at(call.outputs[0]).first, index);
  }

  void insert() {
    std::map<int, int> again;  // the slot of each value that is made again
    std::vector<Instruction> all;
    for (std::size_t i = 0; i < schedule_.instructions.size(); ++i) {
      const auto [first, last] = chosen_.equal_range(static_cast<int>(i));
      for (auto one = first; one != last; ++one) {
        const Graph::Call& call = graph_.calls()[one->second];
        Instruction step{
            .kind = Instruction::Kind::again, .call = one->second, .inputs = call.inputs, .outputs = call.outputs};
        step.op = call.op->again();
        again[step.outputs[0]] = static_cast<int>(schedule_.slots.size());
        schedule_.slots.push_back(graph_.value(step.outputs[0]).spec);
        step.outputs[0] = again.at(step.outputs[0]);
        all.push_back(std::move(step));
      }
      all.push_back(std::move(schedule_.instructions[i]));
      if (all.back().kind != Instruction::Kind::backward) continue;
      for (auto* slots : {&all.back().inputs, &all.back().outputs}) {
        for (int& slot : *slots) {
          if (const auto made = again.find(slot); made != again.end()) slot = made->second;
        }
      }
    }
    schedule_.instructions = std::move(all);
  }

  const Graph& graph_;
  Schedule& schedule_;
  std::map<int, Reads> reads_;  // by value
  std::set<int> shares_, dropped_, needed_;
  std::multimap<int, std::size_t> chosen_;  // calls, by the instruction that they come before
};

}  // namespace

Rounds choose_rounds(const Graph& graph, std::size_t cache_bytes) {
  // Where more is computed with each number that is read or written, waiting for memory is hidden, and rounds are but
  // smaller. Measured: MobileNet has 110 of them and gains 5 to 10 %, ResNet50 240 and gains nothing.
  constexpr double kMostOperations = 160;
  const std::size_t most = cache_bytes / 2;  // others use it too
  struct Costs {
    std::size_t bytes = 0, weight_bytes = 0;
    double numbers = 0, operations = 0;
  };
  std::vector<Costs> calls;  // that may come in rounds
  std::size_t largest = 0;
  Index batch = 0;
  for (const Graph::Call& call : graph.calls()) {
    if (!goes_image_by_image(*call.op)) break;
    if (calls.empty()) batch = graph.value(call.outputs.front()).spec.shape[0];
    Costs costs;
    std::vector<Spec> inputs, outputs;
    bool fits = true;
    for (const int input : call.inputs) {
      const Graph::Value& value = graph.value(input);
      const bool of_images = value.spec.shape.rank() == 4 && value.spec.shape[0] == batch;
      const bool is_sum = dynamic_cast<const ops::Arithmetic*>(call.op.get()) != nullptr;  // of values alone
      const bool weight = value.kind == Graph::Kind::constant;
      fits = fits && (weight ? !is_sum : of_images);
      (weight ? costs.weight_bytes : costs.bytes) += bytes_of(value.spec);
      if (!weight) costs.numbers += static_cast<double>(value.spec.shape.elements());
      inputs.push_back(value.spec);
    }
    for (const int output : call.outputs) outputs.push_back(graph.value(output).spec);
    const Spec& result = outputs.front();  // others are there for a backward
    if (!fits || result.shape.rank() != 4 || result.shape[0] != batch) break;
    costs.bytes += bytes_of(result);
    costs.numbers += static_cast<double>(result.shape.elements());
    costs.operations = call.op->operations(inputs, outputs);
    largest = std::max(largest, costs.bytes);
    calls.push_back(costs);
  }
  if (batch < 2 || largest <= most || largest / static_cast<std::size_t>(batch) > most) return {};
  const auto at_once = static_cast<Index>(most / (largest / static_cast<std::size_t>(batch)));
  Rounds result{.count = (batch + at_once - 1) / at_once};
  Costs sum;
  for (const Costs& costs : calls) {
    if (2 * static_cast<std::size_t>(result.count - 1) * costs.weight_bytes > costs.bytes) break;
    sum.numbers += costs.numbers;
    sum.operations += costs.operations;
    ++result.calls;
  }
  return result.calls > 0 && sum.operations <= kMostOperations * sum.numbers ? result : Rounds{};
}

Schedule schedule_forward(const Graph& graph, const Rounds& rounds) {
  Schedule schedule = all_forward(graph);
  if (rounds.count > 1) InRounds(graph, rounds).rewrite(schedule);
  leave_out_unread(graph, schedule);
  return schedule;
}

Schedule schedule_training(const Graph& graph, int loss, bool hand_over, std::size_t again) {
  Schedule schedule = Backward(graph, loss).take();
  leave_out_unread(graph, schedule);
  if (again > 0) Recomputing(graph, schedule).run(again);
  if (!hand_over) return schedule;
  std::map<int, std::size_t> completed;  // by slot: the last instruction that writes it
  for (std::size_t i = 0; i < schedule.instructions.size(); ++i) {
    for (const int slot : schedule.instructions[i].dx) completed[slot] = i;
    if (schedule.instructions[i].kind == Instruction::Kind::add ||
        schedule.instructions[i].kind == Instruction::Kind::zero)
      completed[schedule.instructions[i].outputs[0]] = i;
  }
  std::multimap<std::size_t, Instruction> added;  // by what they come behind
  for (const auto& [value, gradient] : schedule.gradients) {
    if (graph.value(value).kind != Graph::Kind::trained) continue;
    const std::size_t at = completed.at(gradient);
    added.emplace(at, Instruction{Instruction::Kind::hand_over, schedule.instructions[at].call, {gradient}, {value}});
  }
  std::vector<Instruction> all;
  for (std::size_t i = 0; i < schedule.instructions.size(); ++i) {
    all.push_back(std::move(schedule.instructions[i]));
    const auto [first, last] = added.equal_range(i);
    for (auto one = first; one != last; ++one) all.push_back(one->second);
  }
  schedule.instructions = std::move(all);
  schedule.hands_over = true;
  return schedule;
}

void join_norms(const Graph& graph, Schedule& schedule) {
  std::map<std::size_t, Instruction*> forward;  // by call
  for (Instruction& step : schedule.instructions) {
    if (step.kind == Instruction::Kind::forward) forward[step.call] = &step;
  }
  std::set<std::size_t> joined;
  for (const auto& [call, step] : forward) {
    const auto* norm = dynamic_cast<const ops::BatchNorm*>(graph.calls()[call].op.get());
    if (norm == nullptr || norm->options.statistics != ops::Statistics::batch) continue;
    const int z = step->inputs[0];
    const Graph::Call* before = graph.only_read_once(z);
    const auto* convolution = before == nullptr ? nullptr : dynamic_cast<const ops::Conv2d*>(before->op.get());
    if (convolution == nullptr || convolution->has_residual || convolution->options.activation != Activation::linear)
      continue;
    step->op = std::make_shared<const ops::Conv2dBatchNorm>(*convolution, *norm);
    step->before = static_cast<std::size_t>(graph.value(z).producer);
    step->inputs.erase(step->inputs.begin());
    step->inputs.insert(step->inputs.begin(), before->inputs.begin(), before->inputs.end());
    step->outputs.insert(step->outputs.begin() + 1, z);
    joined.insert(*step->before);
  }
  std::erase_if(schedule.instructions, [&](const Instruction& step) {
    return step.kind == Instruction::Kind::forward && joined.contains(step.call);
  });
}

}  // namespace graft::plan
