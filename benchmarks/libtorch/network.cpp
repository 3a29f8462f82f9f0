#include "network.h"

#include <algorithm>
#include <fstream>
#include <stdexcept>

#include <torch/torch.h>

namespace peer {
namespace {

using Json = nlohmann::json;

// graft's convolutions are [Co, Kh, Kw, Ci], depthwise ones [Kh, Kw, C].
at::Tensor in_torch_order(const at::Tensor& value) {
  at::Tensor ordered = value;
  if (value.dim() == 4) ordered = value.permute({0, 3, 1, 2});
  if (value.dim() == 3) ordered = value.permute({2, 0, 1}).unsqueeze(1);
  return ordered.contiguous(ordered.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
}

bool is_statistic(const std::string& name) { return name.starts_with("moving_"); }

}  // namespace

Network::Network(const std::string& file, at::ScalarType dtype, const std::optional<Backbone>& backbone) {
  read(file, dtype, backbone);
  connect();
}

void Network::read(const std::string& file, at::ScalarType dtype, const std::optional<Backbone>& backbone) {
  std::ifstream stream(file, std::ios::binary);
  std::uint64_t length = 0;
  stream.read(reinterpret_cast<char*>(&length), sizeof length);
  std::string header(stream ? length : 0, '\0');
  stream.read(header.data(), static_cast<std::streamsize>(header.size()));
  if (!stream) throw std::runtime_error(file + " is not a network file");
  const Json tensors = Json::parse(header);
  const Json graph = Json::parse(tensors.at("__metadata__").at("graft.network").get<std::string>());

  image_ = graph.at("input").at("shape").at(0);
  preprocessing_ = graph.at("preprocessing");
  std::map<std::string, std::size_t> index;
  for (const Json& row : graph.at("layers")) {
    index[row.at("name")] = layers_.size();
    layers_.push_back({.name = row.at("name"),
                       .type = row.at("type"),
                       .options = row.value("options", Json::object()),
                       .trainable = row.value("trainable", true),
                       .batch_statistics = row.value("statistics", "batch") == "batch",
                       .tensors = {}});
  }
  nodes_.push_back({});
  for (const Json& row : graph.at("nodes")) {
    Node node;
    node.layer = row.at(0);
    node.inputs = row.at(1).get<std::vector<std::size_t>>();
    nodes_.push_back(std::move(node));
  }
  if (backbone)
    take({.cut = backbone->cut.empty() ? graph.at("features").get<std::string>() : backbone->cut,
          .frozen_to = backbone->frozen_to});
  for (const auto& [name, entry] : tensors.items()) {
    if (name == "__metadata__") continue;
    const std::size_t slash = name.rfind('/');
    Layer& layer = layers_.at(index.at(name.substr(0, slash)));
    const std::string kind = name.substr(slash + 1);
    at::Tensor value = at::empty(entry.at("shape").get<std::vector<std::int64_t>>());
    stream.seekg(
        static_cast<std::streamoff>(sizeof length + length + entry.at("data_offsets").at(0).get<std::size_t>()));
    stream.read(static_cast<char*>(value.data_ptr()), static_cast<std::streamsize>(value.nbytes()));
    if (!stream) throw std::runtime_error(file + " ends before the values of " + name);
    value = in_torch_order(value.to(dtype));
    if (!is_statistic(kind)) value.set_requires_grad(layer.trainable);
    layer.tensors.emplace(kind, std::move(value));
  }
}

std::size_t Network::node_of(const std::string& layer) const {
  const auto found = std::find_if(nodes_.begin() + 1, nodes_.end(), [&](const Node& node) {
    return layers_.at(static_cast<std::size_t>(node.layer)).name == layer;
  });
  if (found == nodes_.end()) throw std::runtime_error("the network has no layer '" + layer + "'");
  return static_cast<std::size_t>(found - nodes_.begin());
}

// Nodes are in order of computation.
void Network::take(const Backbone& backbone) {
  nodes_.resize(node_of(backbone.cut) + 1);
  for (Layer& layer : layers_) layer.trainable = layer.batch_statistics = false;
  for (std::size_t i = backbone.frozen_to.empty() ? nodes_.size() : node_of(backbone.frozen_to) + 1; i < nodes_.size();
       ++i)
    layers_[static_cast<std::size_t>(nodes_[i].layer)].trainable = true;
}

// Which nodes are frozen, who uses a value last, and the steps themselves.
void Network::connect() {
  std::vector<int> uses(nodes_.size(), 0);
  nodes_[0].frozen = true;
  for (std::size_t i = 1; i < nodes_.size(); ++i) {
    Node& node = nodes_[i];
    const Layer& layer = layers_.at(static_cast<std::size_t>(node.layer));
    const bool changes = layer.type == "dropout" || (layer.type == "batch_norm" && layer.batch_statistics);
    node.frozen = !changes && (layer.tensors.empty() || !layer.trainable);
    for (const std::size_t from : node.inputs) {
      node.frozen = node.frozen && nodes_.at(from).frozen;
      nodes_[from].last_use = i;
      ++uses[from];
    }
  }
  for (std::size_t i = 1; i < nodes_.size(); ++i) {
    Node& node = nodes_[i];
    const std::size_t from = node.inputs.at(0);
    const bool in_place = from > 0 && uses[from] == 1 && nodes_[from].frozen == node.frozen;
    node.step = make_step(layers_[static_cast<std::size_t>(node.layer)], in_place);
    for (const std::size_t input : node.inputs) nodes_[input].border |= nodes_[input].frozen && !node.frozen;
  }
  nodes_.back().border = nodes_.back().frozen;
}

Values Network::inputs_of(const Node& node, const Values& values) const {
  Values inputs;
  for (const std::size_t from : node.inputs) inputs.push_back(values[from]);
  return inputs;
}

// A value is let go after its last use.
at::Tensor Network::run(Values values, bool training, bool all,
                        const std::function<void(const Node&, const at::Tensor&)>& after) {
  values.resize(nodes_.size());
  for (std::size_t i = 1; i < nodes_.size(); ++i) {
    const Node& node = nodes_[i];
    if (!all && node.frozen) continue;
    values[i] = node.step(inputs_of(node, values), training);
    if (after) after(node, values[i]);
    for (const std::size_t from : node.inputs)
      if (nodes_[from].last_use == i) values[from].reset();
  }
  return values.back();
}

at::Tensor Network::forward(const at::Tensor& input, bool training) {
  const bool all = kept_.empty();
  return run(all ? Values{input} : kept_, training, all);
}

Values Network::frozen_values(const at::Tensor& input) {
  const at::NoGradGuard off;
  Values values(nodes_.size()), kept(nodes_.size());
  values[0] = input;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    const Node& node = nodes_[i];
    if (!node.frozen) continue;
    if (i > 0) values[i] = node.step(inputs_of(node, values), false);
    if (node.border) kept[i] = values[i];
    for (const std::size_t from : node.inputs)
      if (nodes_[from].last_use == i) values[from].reset();
  }
  return kept;
}

std::vector<at::Tensor> Network::trainable() const {
  std::vector<at::Tensor> found;
  for (const Layer& layer : layers_)
    for (const auto& [name, tensor] : layer.tensors)
      if (tensor.requires_grad()) found.push_back(tensor);
  return found;
}

std::int64_t Network::parameters() const {
  std::int64_t count = 0;
  for (const Layer& layer : layers_)
    for (const auto& [name, tensor] : layer.tensors) count += is_statistic(name) ? 0 : tensor.numel();
  return count;
}

double Network::product_operations(const at::Tensor& input) {
  const at::NoGradGuard off;
  double total = 0;
  run({input}, false, /*all=*/true, [&](const Node& node, const at::Tensor& result) {
    const Layer& layer = layers_[static_cast<std::size_t>(node.layer)];
    const double outputs = static_cast<double>(result.numel());
    if (layer.type == "conv2d" || layer.type == "depthwise_conv2d" || layer.type == "linear") {
      const at::Tensor& weight = layer.tensors.at("weight");
      total += 2 * outputs * static_cast<double>(weight.numel() / weight.size(0));
    }
    if (layer.type == "self_attention") total += 4 * outputs * static_cast<double>(result.size(1));
  });
  return total;
}

}  // namespace peer
