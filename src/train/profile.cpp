#include "train/profile.h"

#include <algorithm>

#include "core/format.h"

namespace graft::train {

Profile::Profile(const nn::Network& network, DType dtype) {
  std::vector<Index> extents{1};
  extents.insert(extents.end(), network.input_shape().begin(), network.input_shape().end());
  const nn::Program program = network.lower(Shape{std::span<const Index>(extents)},
                                            {.training = true, .dtype = dtype, .outputs = {}, .given = {}});
  for (const nn::Program::Call& call : program.calls) {
    std::vector<Spec> in, out;
    for (const nn::Value value : call.inputs) in.push_back(program[value].spec);
    for (const nn::Value value : call.outputs) out.push_back(program[value].spec);
    operations_[call.node].push_back(call.op->operations(in, out));
  }
}

std::function<void(const nn::Program::Call&, std::span<const Tensor>, double)> Profile::step(Index batch) {
  batch_ = batch;
  done_.clear();
  return [this](const nn::Program::Call& call, std::span<const Tensor>, double seconds) {
    const auto& operations = operations_.at(call.node);
    const double work = operations[std::min(done_[call.node]++, operations.size() - 1)] * static_cast<double>(batch_);
    for (Row* row : {&ops_[std::string(call.op->name())], &layers_[call.node]}) {
      row->seconds += seconds;
      row->operations += work;
      ++row->calls;
    }
    parts_["forward"] += seconds;
  };
}

std::string Profile::rows(std::string_view title, const std::map<std::string, Row>& table, double total,
                          std::size_t most) {
  std::vector<std::pair<std::string, Row>> sorted(table.begin(), table.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  std::string text = fmt::format("\n{:<32} {:>10} {:>7} {:>8} {:>9}\n", title, "seconds", "share", "calls", "GFLOP/s");
  for (std::size_t i = 0; i < std::min(most, sorted.size()); ++i) {
    const auto& [name, row] = sorted[i];
    text += fmt::format("{:<32} {:>10.4f} {:>6.1f}% {:>8} {:>9.2f}\n", name, row.seconds, 100 * row.seconds / total,
                        row.calls, row.seconds > 0 ? row.operations / row.seconds * 1e-9 : 0);
  }
  if (sorted.size() > most) text += fmt::format("... and {} more\n", sorted.size() - most);
  return text;
}

std::string Profile::table() const {
  constexpr std::size_t kMostLayers = 40;
  double total = 0;
  for (const auto& [part, seconds] : parts_) total += seconds;
  if (total == 0) total = 1;
  std::string text = fmt::format("{:<32} {:>10} {:>7}\n", "part of a step", "seconds", "share");
  for (const auto& [part, seconds] : parts_)
    text += fmt::format("{:<32} {:>10.4f} {:>6.1f}%\n", part, seconds, 100 * seconds / total);
  return text + rows("op (forward)", ops_, total, ops_.size()) + rows("layer (forward)", layers_, total, kMostLayers);
}

}  // namespace graft::train
