#include "graft/train/frozen.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "graft/plan/plan.h"

#include "core/format.h"
#include "train/hash.h"

namespace graft::train {
namespace {

Shape one_example(const nn::Network& network) {
  std::vector<Index> extents{1};
  extents.insert(extents.end(), network.input_shape().begin(), network.input_shape().end());
  return Shape{std::span<const Index>(extents)};
}

bool is_frozen(const nn::LayerEntry& layer, const nn::Parameter& parameter) {
  return parameter.is_statistic ? layer.statistics == nn::Statistics::moving : !layer.trainable;
}

}  // namespace

FrozenPart frozen_part(nn::Network& network, DType dtype) {
  const nn::Program program =
      network.lower(one_example(network), {.training = true, .dtype = dtype, .outputs = {}, .given = {}});
  std::set<std::string> live;  // nodes that change or draw by themselves
  for (const nn::Program::Call& call : program.calls) {
    if (call.op->updates().any() || call.op->is_random()) live.insert(call.node);
  }
  const auto& nodes = network.nodes();
  std::vector<char> frozen(nodes.size(), 1), in_border(nodes.size(), 0);
  FrozenPart part;
  for (std::size_t i = 1; i < nodes.size(); ++i) {
    const nn::LayerEntry& layer = network.layers()[static_cast<std::size_t>(nodes[i].layer)];
    const auto trains = [&](const std::string& name) {
      return layer.trainable && !network.parameter(name).is_statistic;
    };
    frozen[i] = !live.contains(nodes[i].name) &&
                std::none_of(layer.parameters.begin(), layer.parameters.end(), trains) &&
                std::all_of(nodes[i].inputs.begin(), nodes[i].inputs.end(),
                            [&](int from) { return frozen[static_cast<std::size_t>(from)] != 0; });
    if (frozen[i])
      part.nodes.push_back(nodes[i].name);
    else
      for (const int from : nodes[i].inputs)
        in_border[static_cast<std::size_t>(from)] |= frozen[static_cast<std::size_t>(from)];
  }
  check(!frozen.back(), "[train] nothing to train: no layer of '{}' that its output depends on is trainable",
        network.name);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (!in_border[i]) continue;
    const Spec& spec = program[program.node(nodes[i].name)].spec;
    part.border.push_back(nodes[i].name);
    part.bytes += static_cast<std::size_t>(spec.shape.elements()) * size_of(spec.dtype);
  }
  const std::set<std::string> inside(part.nodes.begin(), part.nodes.end());
  for (const nn::Program::Call& call : program.calls) {
    if (!inside.contains(call.node)) continue;
    std::vector<Spec> in, out;
    for (const nn::Value value : call.inputs) in.push_back(program[value].spec);
    for (const nn::Value value : call.outputs) out.push_back(program[value].spec);
    part.operations += call.op->operations(in, out);
  }
  return part;
}

Features frozen_features(nn::Network& network, const FrozenPart& part, Source& source, DType dtype,
                         const std::function<void(Index examples)>& after_batch) {
  const autograd::NoGrad off;
  Features features;
  features.labels = source.labels();
  network.materialize();
  const plan::Inference inference(network, {.dtype = dtype, .outputs = part.border, .given = {}});
  source.start_epoch(0);
  while (const auto examples = source.next()) {
    const std::vector<Tensor> results = inference.run(values_of(*examples, network, dtype));
    for (std::size_t node = 0; node < part.border.size(); ++node) {
      const Tensor value = results[node].to(Device{});
      Tensor& all = features.values[part.border[node]];
      if (!all.defined()) {
        const PurposeScope purpose(Purpose::features);
        all = Tensor::empty(value.shape().with(0, source.size()), value.dtype());
      }
      const std::size_t row = value.bytes() / static_cast<std::size_t>(examples->size());
      for (std::size_t i = 0; i < examples->indices.size(); ++i) {
        std::memcpy(static_cast<std::byte*>(all.raw()) + static_cast<std::size_t>(examples->indices[i]) * row,
                    static_cast<const std::byte*>(value.raw()) + i * row, row);
      }
    }
    if (after_batch) after_batch(examples->size());
  }
  return features;
}

std::map<std::string, std::string> frozen_hashes(nn::Network& network) {
  network.materialize();
  std::map<std::string, std::string> hashes;
  for (const nn::LayerEntry& layer : network.layers()) {
    for (const std::string& name : layer.parameters) {
      const nn::Parameter& parameter = network.parameter(name);
      if (is_frozen(layer, parameter)) hashes[name] = hash_of(parameter.value);
    }
  }
  return hashes;
}

void check_unchanged(nn::Network& network, const std::map<std::string, std::string>& hashes) {
  for (const auto& [name, before] : hashes) {
    const std::string now = hash_of(network.parameter(name).value);
    check(now == before, "[train] '{}' is frozen, but its values changed: hash {}, expected {}", name, now, before);
  }
}

}  // namespace graft::train
