#include "graft/nn/network.h"

#include <algorithm>
#include <functional>
#include <set>

#include "graft/autograd/tape.h"
#include "graft/nn/layers.h"

#include "core/format.h"
#include "nn/batched.h"
#include "nn/lowering.h"
#include "nn/names.h"

namespace graft::nn {
namespace {

std::uint64_t hash(std::string_view text) {  // FNV-1a: the same on every machine, unlike std::hash
  std::uint64_t value = 0xcbf29ce484222325ull;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return value;
}

}  // namespace

int Network::node_index(std::string_view wanted) const {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].name == wanted) return static_cast<int>(i);
    names.push_back(nodes_[i].name);
  }
  fail("[network] '{}' has no layer '{}'{}", name, wanted, closest(wanted, names));
}

void Network::set_input_shape(const Shape& shape) {
  const Shape before = std::exchange(input_shape_, shape);
  try {
    static_cast<void>(lower(batched(shape, 1)));
  } catch (...) {
    input_shape_ = before;
    throw;
  }
  if (shape.rank() == 3) {
    preprocessing.height = static_cast<int>(shape[0]);
    preprocessing.width = static_cast<int>(shape[1]);
  }
}

bool Network::has_layer(std::string_view wanted) const {
  return std::any_of(layers_.begin(), layers_.end(), [&](const LayerEntry& entry) { return entry.name == wanted; });
}

const LayerEntry& Network::layer(std::string_view wanted) const {
  std::vector<std::string> names;
  for (const LayerEntry& entry : layers_) {
    if (entry.name == wanted) return entry;
    names.push_back(entry.name);
  }
  fail("[network] '{}' has no layer '{}'{}", name, wanted, closest(wanted, names));
}

int Network::add_layer(std::string_view layer_name, std::shared_ptr<const Layer> layer) {
  check(!layer_name.empty() && layer_name.find('/') == std::string_view::npos,
        "[network] a layer's name must not be empty or hold a slash, got '{}'", layer_name);
  const bool taken =
      std::any_of(nodes_.begin(), nodes_.end(), [&](const NodeEntry& node) { return node.name == layer_name; });
  check(!taken, "[network] two layers are called '{}'", layer_name);
  layers_.push_back({std::string(layer_name), std::move(layer), true, Statistics::batch, {}});
  return static_cast<int>(layers_.size()) - 1;
}

int Network::add_node(int layer, std::vector<int> inputs) {
  const std::string& base = layers_[static_cast<std::size_t>(layer)].name;
  const auto uses =
      std::count_if(nodes_.begin(), nodes_.end(), [&](const NodeEntry& node) { return node.layer == layer; });
  nodes_.push_back({uses == 0 ? base : fmt::format("{}:{}", base, uses), layer, std::move(inputs)});
  return static_cast<int>(nodes_.size()) - 1;
}

void Network::materialize() {
  const PurposeScope purpose(Purpose::parameters);
  for (auto& [key, parameter] : parameters_) {
    if (!parameter->value.defined()) {
      parameter->value = initial_values(parameter->shape, parameter->initializer, parameter->fan,
                                        Generator{.seed = seed}.split(hash(key)))
                             .to(device_);
    }
  }
}

std::vector<Parameter*> Network::parameters() {
  materialize();
  std::vector<Parameter*> found;
  for (const LayerEntry& entry : layers_) {
    for (const std::string& key : entry.parameters) found.push_back(parameters_.at(key).get());
  }
  return found;
}

std::vector<Parameter*> Network::trainable_parameters() {
  materialize();
  std::vector<Parameter*> found;
  for (const LayerEntry& entry : layers_) {
    if (!entry.trainable) continue;
    for (const std::string& key : entry.parameters) {
      if (!parameters_.at(key)->is_statistic) found.push_back(parameters_.at(key).get());
    }
  }
  return found;
}

Parameter& Network::parameter(const std::string& key) {
  const auto found = parameters_.find(key);
  if (found == parameters_.end()) {
    std::vector<std::string> names;
    for (const auto& [other, unused] : parameters_) names.push_back(other);
    fail("[network] '{}' has no parameter '{}'{}", name, key, closest(key, names));
  }
  return *found->second;
}

Index Network::parameter_count() const {
  Index count = 0;
  for (const auto& [key, parameter] : parameters_) count += parameter->shape.elements();
  return count;
}

void Network::set_parameter_dtype(DType dtype) {
  check(dtype == DType::f32 || dtype == DType::f64, "[network] parameters are kept in f32 or f64, not in {}", dtype);
  materialize();
  const PurposeScope purpose(Purpose::parameters);
  for (auto& [key, parameter] : parameters_) parameter->value = parameter->value.to(dtype);
}

void Network::to(Device device) {
  const PurposeScope purpose(Purpose::parameters);
  device_ = device;
  for (auto& [key, parameter] : parameters_) {
    if (parameter->value.defined()) parameter->value = parameter->value.to(device);
  }
}

std::vector<std::string> Network::match(std::string_view pattern) const {
  std::vector<std::string> found, names;
  for (const LayerEntry& entry : layers_) {
    names.push_back(entry.name);
    if (matches(pattern, entry.name)) found.push_back(entry.name);
  }
  check(!found.empty(), "[network] no layer of '{}' matches '{}'{}", name, pattern, closest(pattern, names));
  return found;
}

void Network::freeze(std::string_view pattern) {
  match(pattern);
  for (LayerEntry& entry : layers_) {
    if (!matches(pattern, entry.name)) continue;
    entry.trainable = false;
    entry.statistics = Statistics::moving;
  }
}

void Network::unfreeze(std::string_view pattern) {
  match(pattern);
  for (LayerEntry& entry : layers_) {
    if (matches(pattern, entry.name)) entry.trainable = true;
  }
}

void Network::train_last(int count) {
  std::vector<LayerEntry*> weighted;
  for (LayerEntry& entry : layers_) {
    entry.trainable = false;
    entry.statistics = Statistics::moving;
    if (!entry.parameters.empty()) weighted.push_back(&entry);
  }
  check(count >= 0 && static_cast<std::size_t>(count) <= weighted.size(),
        "[network] '{}' has {} layers with weights, cannot train the last {}", name, weighted.size(), count);
  for (int i = 0; i < count; ++i) weighted[weighted.size() - 1 - static_cast<std::size_t>(i)]->trainable = true;
}

void Network::use_statistics(Statistics statistics, std::string_view pattern) {
  match(pattern);
  for (LayerEntry& entry : layers_) {
    if (matches(pattern, entry.name)) entry.statistics = statistics;
  }
}

Network Network::cut(std::string_view node) const {
  const int last = node_index(node);
  std::vector<char> needed(nodes_.size(), 0);
  needed[0] = needed[static_cast<std::size_t>(last)] = 1;
  for (int i = last; i > 0; --i) {
    if (!needed[static_cast<std::size_t>(i)]) continue;
    for (const int input : nodes_[static_cast<std::size_t>(i)].inputs) needed[static_cast<std::size_t>(input)] = 1;
  }
  Network part;
  part.name = name;
  part.preprocessing = preprocessing;
  part.seed = seed;
  part.input_shape_ = input_shape_;
  part.device_ = device_;
  std::map<int, int> layer_of, node_of;
  for (int i = 0; i <= last; ++i) {
    if (!needed[static_cast<std::size_t>(i)]) continue;
    NodeEntry entry = nodes_[static_cast<std::size_t>(i)];
    if (entry.layer >= 0) {
      const auto [known, fresh] = layer_of.try_emplace(entry.layer, static_cast<int>(part.layers_.size()));
      if (fresh) {
        part.layers_.push_back(layers_[static_cast<std::size_t>(entry.layer)]);
        for (const std::string& key : part.layers_.back().parameters)
          part.parameters_.emplace(key, parameters_.at(key));
      }
      entry.layer = known->second;
    }
    for (int& input : entry.inputs) input = node_of.at(input);
    node_of[i] = static_cast<int>(part.nodes_.size());
    part.nodes_.push_back(std::move(entry));
    if (part.nodes_.back().name == features) part.features = features;
  }
  if (last == static_cast<int>(nodes_.size()) - 1) part.classes = classes;
  return part;
}

void Network::graft(const HeadOptions& head) {
  check(head.classes > 0, "[graft] the new head needs at least one class, got {}", head.classes);
  check(head.class_names.empty() || static_cast<Index>(head.class_names.size()) == head.classes,
        "[graft] {} class names for {} classes", head.class_names.size(), head.classes);
  const std::string at = !head.cut.empty() ? head.cut : !features.empty() ? features : output().name;
  Network grafted = cut(at);
  for (const LayerEntry& entry : grafted.layers_) {
    check(!entry.name.starts_with("head"),
          "[graft] the backbone up to '{}' has a layer called '{}', like those of a head", at, entry.name);
  }
  const Program program = grafted.lower(batched(input_shape_, 1));
  int node = static_cast<int>(grafted.nodes_.size()) - 1;
  const auto add = [&](std::string_view layer_name, auto layer) {
    node = grafted.add_node(grafted.add_layer(layer_name, std::make_shared<const decltype(layer)>(std::move(layer))),
                            {node});
  };
  const int rank = program[program.output].spec.shape.rank();
  check(rank == 2 || rank == 4, "[graft] a head grows on [N, H, W, C] or [N, C], layer '{}' gives {}", at,
        program[program.output].spec.shape);
  if (rank == 4) add("head_pool", GlobalAveragePool());
  int number = 1;
  for (const Index width : head.hidden) {
    add(fmt::format("head_hidden_{}", number), Linear({.out = width, .activation = Activation::relu}));
    if (head.dropout > 0) add(fmt::format("head_dropout_{}", number), Dropout({.rate = head.dropout}));
    ++number;
  }
  if (head.hidden.empty() && head.dropout > 0) add("head_dropout", Dropout({.rate = head.dropout}));
  add("head", Linear({.out = head.classes, .softmax = true}));
  grafted.features = at;
  grafted.classes = head.class_names;
  grafted.declare();
  *this = std::move(grafted);
}

// Lowers once, for a batch of one, so that every layer declares its parameters.
void Network::declare() {
  NetworkLowering lowering(*this);
  std::vector<Value> values{lowering.input({batched(input_shape_, 1), DType::f32}, nodes_[0].name)};
  for (std::size_t i = 1; i < nodes_.size(); ++i) {
    std::vector<Value> inputs;
    for (const int input : nodes_[i].inputs) inputs.push_back(values[static_cast<std::size_t>(input)]);
    values.push_back(lowering.node(nodes_[i], inputs));
  }
}

Program Network::lower(const Shape& input, const LowerOptions& options) const {
  check(!nodes_.empty(), "[network] an empty network cannot run");
  check(input.rank() == input_shape_.rank() + 1, "[network] '{}' expects inputs {}, got {}", name,
        batched(input_shape_, 1).with(0, 0), input);
  std::set<int> wanted;
  for (const std::string& output : options.outputs) wanted.insert(node_index(output));
  if (wanted.empty()) wanted.insert(static_cast<int>(nodes_.size()) - 1);
  std::vector<char> needed(nodes_.size(), 0);
  for (const int node : wanted) needed[static_cast<std::size_t>(node)] = 1;
  for (std::size_t i = nodes_.size(); i-- > 1;) {
    if (!needed[i] || options.given.contains(nodes_[i].name)) continue;
    for (const int from : nodes_[i].inputs) needed[static_cast<std::size_t>(from)] = 1;
  }

  NetworkLowering lowering(*this, options);
  Program& program = lowering.program();
  std::vector<Value> values(nodes_.size());
  values[0] = program.input = lowering.input({input, options.dtype}, nodes_[0].name);
  program.nodes.push_back({nodes_[0].name, values[0]});
  for (std::size_t i = 1; i < nodes_.size(); ++i) {
    if (!needed[i]) continue;
    if (const auto known = options.given.find(nodes_[i].name); known != options.given.end()) {
      values[i] = lowering.input(known->second, nodes_[i].name);
      program.nodes.push_back({nodes_[i].name, values[i]});
      continue;
    }
    std::vector<Value> inputs;
    for (const int from : nodes_[i].inputs) inputs.push_back(values[static_cast<std::size_t>(from)]);
    values[i] = lowering.node(nodes_[i], inputs);
  }
  program.output = values[static_cast<std::size_t>(*wanted.rbegin())];
  return lowering.take();
}

}  // namespace graft::nn
