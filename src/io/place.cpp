#include "graft/nn/layers.h"
#include "graft/ops/shape.h"

#include "core/dtype_dispatch.h"
#include "io/convert.h"
#include "io/tensor_checks.h"

namespace graft::io {
namespace {

// In f32, with its axes in another order: axis i of the result is axis order[i] of the tensor.
Tensor permuted(const Tensor& tensor, std::vector<int> order) {
  return ops::permute(tensor.to(DType::f32), std::move(order));
}

// [H, W, C] in front of the Flatten that feeds a linear layer; empty if there is none.
Shape flattened_image(const nn::Network& network, const nn::LayerEntry& layer) {
  const auto& nodes = network.nodes();
  const nn::Program program =
      network.lower(Shape{1, network.input_shape()[0], network.input_shape()[1], network.input_shape()[2]});
  for (const nn::NodeEntry& node : nodes) {
    if (node.layer < 0 || &network.layers()[static_cast<std::size_t>(node.layer)] != &layer) continue;
    const nn::NodeEntry& before = nodes[static_cast<std::size_t>(node.inputs[0])];
    if (before.layer < 0 || network.layers()[static_cast<std::size_t>(before.layer)].layer->type() != "flatten")
      return {};
    const Shape& image = program[program.node(nodes[static_cast<std::size_t>(before.inputs[0])].name)].spec.shape;
    return image.rank() == 4 ? Shape{image[1], image[2], image[3]} : Shape{};
  }
  return {};
}

// What other frameworks call graft's parameters.
std::string parameter_name(std::string_view type, std::string_view name) {
  const bool norm = type == "batch_norm" || type == "layer_norm";
  if (name == "kernel") return "weight";
  if (name == "running_mean") return "moving_mean";
  if (name == "running_var") return "moving_variance";
  if (norm && name == "weight") return "gamma";
  if (norm && name == "bias") return "beta";
  if (name == "cls_token" || name == "pos_embed") return "weight";
  return std::string(name);
}

}  // namespace

Placement place(const nn::Network& network, const nn::LayerEntry& layer, const WeightTensor& tensor,
                bool channels_first) {
  check_finite(tensor.source, tensor.value);
  const std::string_view type = layer.layer->type();
  Placement placement{parameter_name(type, tensor.name), tensor.value.to(DType::f32)};
  check_finite(tensor.source, placement.value);  // an f64 may be too large for f32
  const Shape& shape = tensor.value.shape();
  if (type == "class_token" || type == "position_embedding") {  // timm keeps a batch of one in front
    if (shape.rank() == 3 && shape[0] == 1) placement.value = placement.value.reshaped({shape[1], shape[2]});
    return placement;
  }
  if (placement.parameter != "weight") return placement;
  if (type == "conv2d" && shape.rank() == 4) {
    placement.value =
        permuted(tensor.value, channels_first ? std::vector<int>{0, 2, 3, 1} : std::vector<int>{3, 0, 1, 2});
  } else if (type == "depthwise_conv2d" && shape.rank() == 4) {
    // Keras [h, w, in, multiplier] lies as [h, w, in * multiplier] already; PyTorch has [in * multiplier, 1, h, w].
    const Tensor value = channels_first ? permuted(tensor.value, {2, 3, 0, 1}) : placement.value;
    placement.value = value.reshaped({value.shape()[0], value.shape()[1], -1});
  } else if (type == "linear" && shape.rank() == 2) {
    if (!channels_first) {
      placement.value = permuted(tensor.value, {1, 0});
    } else if (const Shape image = flattened_image(network, layer); image.rank() == 3 && shape[1] == image.elements()) {
      placement.value =
          permuted(tensor.value.reshaped({shape[0], image[2], image[0], image[1]}), {0, 2, 3, 1}).reshaped(shape);
    }
  }
  return placement;
}

}  // namespace graft::io
