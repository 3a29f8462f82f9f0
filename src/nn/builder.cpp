#include "graft/nn/network.h"

#include "core/format.h"
#include "nn/lowering.h"

namespace graft::nn {

Builder::Builder(const BuilderOptions& options) {
  network_.name = options.name;
  network_.input_shape_ = {options.height, options.width, options.channels};
  network_.preprocessing.height = static_cast<int>(options.height);
  network_.preprocessing.width = static_cast<int>(options.width);
  network_.nodes_.push_back({options.input_name, -1, {}});
  shapes_.push_back({1, options.height, options.width, options.channels});
}

Builder::Node Builder::add(std::string_view name, std::shared_ptr<const Layer> layer, const std::vector<Node>& inputs) {
  std::vector<int> indices;
  std::vector<Value> values;
  NetworkLowering lowering(network_);
  for (const Node input : inputs) {
    check(input.index >= 0 && static_cast<std::size_t>(input.index) < shapes_.size(),
          "[builder] layer '{}' is given a node of another network", name);
    indices.push_back(input.index);
    values.push_back(lowering.input({shapes_[static_cast<std::size_t>(input.index)], DType::f32}, "input"));
  }
  const int index = network_.add_node(network_.add_layer(name, std::move(layer)), std::move(indices));
  shapes_.push_back(lowering.shape(lowering.node(network_.nodes_.back(), values)));
  return {index};
}

Builder::Node Builder::again(std::string_view name, Node input) {
  const auto& layers = network_.layers_;
  int layer = -1;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].name == name) layer = static_cast<int>(i);
  }
  check(layer >= 0, "[builder] there is no layer '{}' to apply again", name);
  NetworkLowering lowering(network_);
  const Value value = lowering.input({shape(input), DType::f32}, "input");
  const int index = network_.add_node(layer, {input.index});
  shapes_.push_back(lowering.shape(lowering.node(network_.nodes_.back(), {value})));
  return {index};
}

Shape Builder::shape(Node node) const { return shapes_.at(static_cast<std::size_t>(node.index)); }

void Builder::features(Node node) { network_.features = network_.nodes_.at(static_cast<std::size_t>(node.index)).name; }

Network Builder::build(Node output) {
  check(output.index >= 0 && static_cast<std::size_t>(output.index) < network_.nodes_.size(),
        "[builder] the output is a node of another network");
  return network_.cut(network_.nodes_[static_cast<std::size_t>(output.index)].name);
}

}  // namespace graft::nn
