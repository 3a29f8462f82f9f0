#include "graft/train/frozen.h"

#include <algorithm>
#include <set>

#include "graft/plan/plan.h"

#include "core/downloader.h"
#include "core/format.h"
#include "nn/batched.h"
#include "train/border.h"
#include "train/hash.h"
#include "train/uploaded.h"

namespace graft::train {
namespace {

Shape one_example(const nn::Network& network) { return nn::batched(network.input_shape(), 1); }

bool is_frozen(const nn::LayerEntry& layer, const nn::Parameter& parameter) {
  return parameter.is_statistic ? layer.statistics == nn::Statistics::moving : !layer.trainable;
}

// What is known of each node of a network in training: which belong to the frozen part, and what their values take.
struct NodeFacts {
  std::vector<char> frozen;
  std::vector<std::size_t> bytes;  // of the value for one example
  std::vector<double> operations;
};

NodeFacts facts_of(nn::Network& network, DType dtype) {
  const nn::Program program =
      network.lower(one_example(network), {.training = true, .dtype = dtype, .outputs = {}, .given = {}});
  std::set<std::string> live;  // nodes that change or draw by themselves
  std::map<std::string, double> operations;
  for (const nn::Program::Call& call : program.calls) {
    if (call.op->updates().any() || call.op->is_random()) live.insert(call.node);
    std::vector<Spec> in, out;
    for (const nn::Value value : call.inputs) in.push_back(program[value].spec);
    for (const nn::Value value : call.outputs) out.push_back(program[value].spec);
    operations[call.node] += call.op->operations(in, out);
  }
  const auto& nodes = network.nodes();
  NodeFacts facts{std::vector<char>(nodes.size(), 1), {}, {}};
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const Spec& spec = program[program.node(nodes[i].name)].spec;
    facts.bytes.push_back(static_cast<std::size_t>(spec.shape.elements()) * size_of(spec.dtype));
    facts.operations.push_back(operations[nodes[i].name]);
    if (i == 0) continue;
    const nn::LayerEntry& layer = network.layers()[static_cast<std::size_t>(nodes[i].layer)];
    const auto trains = [&](const std::string& name) {
      return layer.trainable && !network.parameter(name).is_statistic;
    };
    facts.frozen[i] = !live.contains(nodes[i].name) &&
                      std::none_of(layer.parameters.begin(), layer.parameters.end(), trains) &&
                      std::all_of(nodes[i].inputs.begin(), nodes[i].inputs.end(),
                                  [&](int from) { return facts.frozen[static_cast<std::size_t>(from)] != 0; });
  }
  check(!facts.frozen.back(), "[train] nothing to train: no layer of '{}' that its output depends on is trainable",
        network.name);
  return facts;
}

// The frozen nodes up to `end`, and what all other nodes read of them.
FrozenPart part_up_to(const nn::Network& network, const NodeFacts& facts, std::size_t end) {
  const auto& nodes = network.nodes();
  const auto inside = [&](std::size_t node) { return node < end && facts.frozen[node] != 0; };
  std::vector<char> is_read(nodes.size(), 0);
  FrozenPart part;
  for (std::size_t i = 1; i < nodes.size(); ++i) {
    if (inside(i)) {
      part.nodes.push_back(nodes[i].name);
      part.operations += facts.operations[i];
      continue;
    }
    if (facts.frozen[i]) part.repeated += facts.operations[i];
    for (const int from : nodes[i].inputs) is_read[static_cast<std::size_t>(from)] = 1;
  }
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (!is_read[i] || !inside(i)) continue;
    part.border.push_back(nodes[i].name);
    part.bytes += facts.bytes[i];
  }
  return part;
}

}  // namespace

FrozenPart frozen_part(nn::Network& network, DType dtype) {
  const NodeFacts facts = facts_of(network, dtype);
  return part_up_to(network, facts, facts.frozen.size());
}

std::vector<FrozenPart> frozen_cuts(nn::Network& network, DType dtype) {
  const NodeFacts facts = facts_of(network, dtype);
  std::vector<FrozenPart> cuts;
  for (std::size_t i = 1; i < facts.frozen.size(); ++i) {
    if (facts.frozen[i]) cuts.push_back(part_up_to(network, facts, i + 1));
  }
  return cuts;
}

void for_each_border(nn::Network& network, const FrozenPart& part, Source& source, std::uint64_t epoch, DType dtype,
                     const BorderSink& sink) {
  const autograd::NoGrad off;
  network.materialize();
  const plan::Inference inference(network, {.dtype = dtype, .outputs = part.border, .given = {}});
  Uploader uploader(network.device());
  Downloader downloader(network.device());
  source.start_epoch(epoch);
  while (const auto examples = source.next()) {
    downloader.download(inference.run(values_of(*examples, network, dtype, uploader)),
                        [&sink, at = examples->indices](std::span<const Tensor> values) { sink(at, values); });
  }
  downloader.finish();
}

Features frozen_features(nn::Network& network, const FrozenPart& part, Source& source, DType dtype,
                         const std::function<void(Index examples)>& after_batch) {
  FeatureRows rows(part.border, source.size());
  for_each_border(network, part, source, 0, dtype, [&](std::span<const Index> at, std::span<const Tensor> values) {
    rows.put(at, values);
    if (after_batch) after_batch(static_cast<Index>(at.size()));
  });
  Features features = rows.take();
  features.labels = source.labels();
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
