#include <map>
#include <ostream>

#include <fmt/ostream.h>

#include "graft/nn/network.h"

#include "core/format.h"
#include "nn/batched.h"

namespace graft::nn {
namespace {

struct Row {
  std::string layer, shape, parameters, trainable, operations, memory, inputs;
};

// 1234567 -> 1.23 M.
std::string scaled(double value) {
  constexpr const char* kUnits[] = {"", " k", " M", " G", " T"};
  int unit = 0;
  while (value >= 1000 && unit < 4) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f}", value) : fmt::format("{:.2f}{}", value, kUnits[unit]);
}

// 1234567 -> 1,234,567.
std::string grouped(Index value) {
  std::string digits = std::to_string(value);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) digits.insert(static_cast<std::size_t>(at), ",");
  return digits;
}

}  // namespace

void Network::summary(std::ostream& out, Index batch) const {
  const Program program = lower(batched(input_shape_, batch));

  std::map<std::string, double> operations, memory;
  for (const Program::Call& call : program.calls) {
    std::vector<Spec> inputs, outputs;
    for (const Value value : call.inputs) inputs.push_back(program[value].spec);
    for (const Value value : call.outputs) outputs.push_back(program[value].spec);
    operations[call.node] += call.op->operations(inputs, outputs);
    if (call.op->is_view()) continue;
    for (const Spec& spec : outputs)
      memory[call.node] += static_cast<double>(spec.shape.elements()) * static_cast<double>(size_of(spec.dtype));
  }

  std::vector<Row> rows{{"Layer (type)", "Output shape", "Parameters", "Trains", "FLOPs", "Bytes", "From"}};
  Index total = 0, trainable = 0;
  std::map<int, bool> counted;
  for (const NodeEntry& node : nodes_) {
    Row row;
    row.shape = program[program.node(node.name)].spec.shape.to_string();
    if (node.layer < 0) {
      row.layer = node.name + " (input)";
    } else {
      const LayerEntry& entry = layers_[static_cast<std::size_t>(node.layer)];
      Index parameters = 0, trained = 0;
      for (const std::string& key : entry.parameters) {
        const Parameter& parameter = *parameters_.at(key);
        parameters += parameter.shape.elements();
        if (entry.trainable && !parameter.is_statistic) trained += parameter.shape.elements();
      }
      if (!counted[node.layer]) {  // a shared layer's parameters are there once
        total += parameters;
        trainable += trained;
      }
      counted[node.layer] = true;
      row.layer = fmt::format("{} ({})", node.name, entry.layer->type());
      row.parameters = grouped(parameters);
      row.trainable = parameters == 0 ? "" : trained > 0 ? "yes" : "frozen";
      row.operations = scaled(operations[node.name]);
      row.memory = scaled(memory[node.name]);
      std::vector<std::string> from;
      for (const int input : node.inputs) from.push_back(nodes_[static_cast<std::size_t>(input)].name);
      row.inputs = fmt::format("{}", fmt::join(from, ", "));
    }
    rows.push_back(std::move(row));
  }

  std::size_t layer_width = 0, shape_width = 0;
  for (const Row& row : rows) {
    layer_width = std::max(layer_width, row.layer.size());
    shape_width = std::max(shape_width, row.shape.size());
  }
  fmt::print(out, "{}, batch {}\n", name, batch);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    fmt::print(out, "{:<{}}  {:<{}}  {:>11}  {:>6}  {:>8}  {:>8}  {}\n", row.layer, layer_width, row.shape, shape_width,
               row.parameters, row.trainable, row.operations, row.memory, row.inputs);
    if (i == 0) fmt::print(out, "{:-<{}}\n", "", layer_width + shape_width + 60);
  }
  double all_operations = 0, all_memory = 0;
  for (const auto& [node, count] : operations) all_operations += count;
  for (const auto& [node, bytes] : memory) all_memory += bytes;
  fmt::print(out, "parameters: {} ({} trainable, {} not), {}B\n", grouped(total), grouped(trainable),
             grouped(total - trainable), scaled(static_cast<double>(total) * 4));
  fmt::print(out, "forward: {}FLOPs, activations {}B in all\n", scaled(all_operations), scaled(all_memory));
}

}  // namespace graft::nn
