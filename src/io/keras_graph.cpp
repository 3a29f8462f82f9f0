#include "io/keras_graph.h"

#include <functional>
#include <map>
#include <optional>

#include <nlohmann/json.hpp>

#include "graft/nn/layers.h"

#include "core/format.h"

namespace graft::io {
namespace {

using Json = nlohmann::json;
using Node = nn::Builder::Node;

constexpr int kMaxNesting = 16;

Extent read_extent(const Json& value) {
  if (value.is_number()) return value.get<Index>();
  return {value.at(0).get<Index>(), value.at(1).get<Index>()};
}

Padding read_padding(const Json& config) {
  const std::string padding = config.value("padding", "valid");
  check(padding == "valid" || padding == "same", "padding '{}' is not known", padding);
  return padding == "same" ? kSame : kValid;
}

void need_channels_last(const Json& config) {
  const auto format = config.find("data_format");
  check(format == config.end() || format->is_null() || *format == "channels_last",
        "data format {} is not supported, only channels_last", format->dump());
}

// An activation is saved as a name or as {"class_name": ...}; softmax is not a function of one number.
struct KerasActivation {
  Activation function = Activation::linear;
  bool softmax = false;
};

KerasActivation read_activation(const Json& config) {
  static const std::map<std::string, Activation> kFunctions{
      {"linear", Activation::linear},   {"relu", Activation::relu}, {"relu6", Activation::relu6},
      {"sigmoid", Activation::sigmoid}, {"tanh", Activation::tanh}, {"gelu", Activation::gelu},
      {"swish", Activation::silu},      {"silu", Activation::silu},
  };
  const auto found = config.find("activation");
  if (found == config.end() || found->is_null()) return {};
  const std::string name = found->is_string() ? found->get<std::string>() : found->at("config").get<std::string>();
  if (name == "softmax") return {Activation::linear, true};
  const auto function = kFunctions.find(name);
  check(function != kFunctions.end(), "activation '{}' is not one that graft has", name);
  return {function->second, false};
}

Window read_pool(const Json& config) {
  need_channels_last(config);
  const Json& size = config.at("pool_size");
  const auto strides = config.find("strides");
  return {.kernel = read_extent(size),
          .stride = read_extent(strides == config.end() || strides->is_null() ? size : *strides),
          .padding = read_padding(config)};
}

void need_last_axis(const Json& config, int rank) {
  const auto found = config.find("axis");
  if (found == config.end()) return;
  const Json& axis = found->is_array() && found->size() == 1 ? found->front() : *found;
  check(axis == -1 || axis == rank - 1, "axis {} is not the last one", found->dump());
}

// Turns one model's list of layers into calls of the builder; a model inside a model is entered in place.
class Reader {
 public:
  Reader(nn::Builder& builder, int depth) : b_(builder), depth_(depth) {
    check(depth < kMaxNesting, "[convert] models are nested more than {} deep", kMaxNesting);
  }

  // The model's output, given its input.
  Node model(const Json& model, Node input) {
    const Json& config = model.at("config");
    const Json& layers = config.is_array() ? config : config.at("layers");  // Keras 1 wrote a Sequential's layers bare
    if (model.at("class_name") == "Sequential") {
      Node x = input;
      for (const Json& layer : layers) {
        if (layer.at("class_name") != "InputLayer") x = apply(layer, {x});
      }
      return x;
    }
    return functional(config, layers, input);
  }

 private:
  using Key = std::pair<std::string, int>;  // layer and how many times it had been applied before

  Node functional(const Json& config, const Json& layers, Node input) {
    struct Pending {
      const Json* layer;
      int application;
      std::vector<Key> inputs;
    };
    std::vector<Pending> pending;
    for (const Json& layer : layers) {
      const std::string name = layer_name(layer);
      if (layer.at("class_name") == "InputLayer") {
        values_[{name, 0}] = input;
        continue;
      }
      int application = 0;
      for (const Json& node : layer.at("inbound_nodes")) pending.push_back({&layer, application++, sources(node)});
    }
    const auto known = [&](const Key& key) { return values_.contains(key); };
    while (!pending.empty()) {
      const auto ready = std::find_if(pending.begin(), pending.end(), [&](const Pending& p) {
        return std::all_of(p.inputs.begin(), p.inputs.end(), known);
      });
      check(ready != pending.end(), "[convert] the inputs of Keras layer '{}' are not in the model",
            layer_name(*pending.front().layer));
      std::vector<Node> inputs;
      for (const Key& key : ready->inputs) inputs.push_back(values_.at(key));
      values_[{layer_name(*ready->layer), ready->application}] = apply(*ready->layer, inputs, ready->application);
      pending.erase(ready);
    }
    const Json& outputs = config.at("output_layers");
    const Json& output =
        outputs.at(0).is_array() ? outputs.at(0) : outputs;  // Keras 3 writes a single output without the outer list
    check(!outputs.at(0).is_array() || outputs.size() == 1,
          "[convert] the model has {} outputs, graft's networks have one", outputs.size());
    const auto found = values_.find({output.at(0).get<std::string>(), output.at(1).get<int>()});
    check(found != values_.end(), "[convert] the output layer {} is not in the model", output.at(0).dump());
    return found->second;
  }

  static std::string layer_name(const Json& layer) {
    return layer.contains("name") ? layer.at("name").get<std::string>()
                                  : layer.at("config").at("name").get<std::string>();
  }

  // The tensors that an application reads: [["layer", node, tensor, {}], ...] before Keras 3, and since then tensors
  // anywhere among the arguments.
  static std::vector<Key> sources(const Json& node) {
    std::vector<Key> keys;
    if (node.is_array()) {
      for (const Json& source : node) keys.emplace_back(source.at(0).get<std::string>(), source.at(1).get<int>());
      return keys;
    }
    const std::function<void(const Json&, int)> visit = [&](const Json& value, int depth) {
      check(depth < kMaxNesting, "[convert] the arguments of a layer are nested more than {} deep", kMaxNesting);
      if (value.is_object() && value.value("class_name", "") == "__keras_tensor__") {
        const Json& history = value.at("config").at("keras_history");
        keys.emplace_back(history.at(0).get<std::string>(), history.at(1).get<int>());
      } else if (value.is_structured()) {
        for (const Json& part : value) visit(part, depth + 1);
      }
    };
    visit(node.at("args"), 0);
    return keys;
  }

  Node apply(const Json& layer, const std::vector<Node>& inputs, int application = 0) {
    const std::string type = layer.at("class_name");
    if (type == "Functional" || type == "Model" || type == "Sequential") {
      check(inputs.size() == 1 && application == 0,
            "[convert] the inner model '{}' is applied several times or to several inputs", layer_name(layer));
      return Reader(b_, depth_ + 1).model(layer, inputs[0]);
    }
    const std::string name = layer_name(layer);
    try {
      if (application > 0) return b_.again(name, inputs.at(0));
      return create(type, name, layer.at("config"), inputs);
    } catch (const Error& error) {
      fail("[convert] Keras layer '{}' ({}): {}", name, type, error.what());
    }
  }

  Node create(const std::string& type, const std::string& name, const Json& c, const std::vector<Node>& inputs) {
    const Node x = inputs.at(0);
    if (type == "Conv2D" || type == "Convolution2D")
      return with_softmax(c, name, [&](const std::string& own, Activation activation) {
        need_channels_last(c);
        return b_.add(own,
                      nn::Conv2d({.out = c.at("filters"),
                                  .kernel = read_extent(c.at("kernel_size")),
                                  .stride = read_extent(c.at("strides")),
                                  .padding = read_padding(c),
                                  .dilation = read_extent(c.value("dilation_rate", Json(1))),
                                  .groups = c.value("groups", Index{1}),
                                  .bias = c.value("use_bias", true),
                                  .activation = activation}),
                      x);
      });
    if (type == "DepthwiseConv2D")
      return with_softmax(c, name, [&](const std::string& own, Activation activation) {
        need_channels_last(c);
        return b_.add(own,
                      nn::DepthwiseConv2d({.kernel = read_extent(c.at("kernel_size")),
                                           .stride = read_extent(c.at("strides")),
                                           .padding = read_padding(c),
                                           .dilation = read_extent(c.value("dilation_rate", Json(1))),
                                           .multiplier = c.value("depth_multiplier", Index{1}),
                                           .bias = c.value("use_bias", true),
                                           .activation = activation}),
                      x);
      });
    if (type == "Dense") {
      const KerasActivation activation = read_activation(c);
      return b_.add(name,
                    nn::Linear({.out = c.at("units"),
                                .bias = c.value("use_bias", true),
                                .activation = activation.function,
                                .softmax = activation.softmax}),
                    x);
    }
    if (type == "BatchNormalization") {
      need_last_axis(c, b_.shape(x).rank());
      return b_.add(name,
                    nn::BatchNorm({.epsilon = c.at("epsilon"),
                                   .momentum = c.at("momentum"),
                                   .scale = c.value("scale", true),
                                   .center = c.value("center", true)}),
                    x);
    }
    if (type == "LayerNormalization") {
      need_last_axis(c, b_.shape(x).rank());
      check(c.value("scale", true) && c.value("center", true), "without scale or center is not supported");
      return b_.add(name, nn::LayerNorm({.epsilon = c.at("epsilon")}), x);
    }
    if (type == "Activation") {
      const KerasActivation activation = read_activation(c);
      return activation.softmax ? b_.add(name, nn::Softmax(), x) : b_.add(name, nn::Activate(activation.function), x);
    }
    if (type == "ReLU") {
      const Json limit = c.value("max_value", Json());
      check(limit.is_null() || limit == 6.0, "a maximum of {} is not supported, only 6 or none", limit.dump());
      check(c.value("negative_slope", Json(0.0)) == 0.0 && c.value("threshold", Json(0.0)) == 0.0,
            "a slope or threshold is not supported");
      return b_.add(name, nn::Activate(limit.is_null() ? Activation::relu : Activation::relu6), x);
    }
    if (type == "Softmax") {
      need_last_axis(c, b_.shape(x).rank());
      return b_.add(name, nn::Softmax(), x);
    }
    if (type == "ZeroPadding2D") {
      need_channels_last(c);
      const Json& p = c.at("padding");
      return b_.add(
          name,
          nn::ZeroPad({.top = p.at(0).at(0), .bottom = p.at(0).at(1), .left = p.at(1).at(0), .right = p.at(1).at(1)}),
          x);
    }
    if (type == "MaxPooling2D") return b_.add(name, nn::MaxPool(read_pool(c)), x);
    if (type == "AveragePooling2D") return b_.add(name, nn::AveragePool(read_pool(c)), x);
    if (type == "GlobalAveragePooling2D") return b_.add(name, nn::GlobalAveragePool(c.value("keepdims", false)), x);
    if (type == "GlobalMaxPooling2D") {
      check(!c.value("keepdims", false), "keepdims is not supported");
      return b_.add(name, nn::GlobalMaxPool(), x);
    }
    if (type == "Dropout") return b_.add(name, nn::Dropout({.rate = c.at("rate")}), x);
    if (type == "Flatten") return b_.add(name, nn::Flatten(), x);
    if (type == "Reshape") return b_.add(name, nn::Reshape(c.at("target_shape").get<std::vector<Index>>()), x);
    if (type == "Add") return b_.add(name, nn::Add(), inputs);
    if (type == "Concatenate") {
      need_last_axis(c, b_.shape(x).rank());
      return b_.add(name, nn::Concat(), inputs);
    }
    fail("graft has no layer of this class");
  }

  // A convolution whose activation is a softmax gets a layer for it; every other activation is fused.
  Node with_softmax(const Json& config, const std::string& name,
                    const std::function<Node(const std::string&, Activation)>& make) {
    const KerasActivation activation = read_activation(config);
    const Node y = make(name, activation.function);
    return activation.softmax ? b_.add(name + "_softmax", nn::Softmax(), y) : y;
  }

  nn::Builder& b_;
  int depth_;
  std::map<Key, Node> values_;
};

// The shape of the model's input without the batch: on its InputLayer, or on the first layer of a Sequential. Models
// may start with a model.
std::optional<Json> input_shape(const Json& model, int depth = 0) {
  check(depth < kMaxNesting, "[convert] models are nested more than {} deep", kMaxNesting);
  const Json& config = model.at("config");
  if (config.is_object()) {
    for (const char* key : {"batch_shape", "batch_input_shape"}) {
      if (const auto found = config.find(key); found != config.end() && found->is_array()) return *found;
    }
    if (const auto built = config.find("build_input_shape"); built != config.end() && built->is_array()) return *built;
  }
  const Json* layers = config.is_array() ? &config : config.contains("layers") ? &config.at("layers") : nullptr;
  if (layers == nullptr || layers->empty()) return std::nullopt;
  return input_shape(layers->front(), depth + 1);
}

}  // namespace

nn::Network network_from_keras(std::string_view model_config, Index height, Index width) {
  try {
    const Json model = Json::parse(model_config);
    const std::optional<Json> shape = input_shape(model);
    check(shape.has_value() && shape->size() == 4, "[convert] the model does not take images: its input is {}",
          shape ? shape->dump() : "not said");
    const auto extent = [&](std::size_t axis, Index asked) {
      if (asked > 0) return asked;
      check(!shape->at(axis).is_null(), "[convert] the model's input size is open ({}): give one with --input-size",
            shape->dump());
      return shape->at(axis).get<Index>();
    };
    const Json& config = model.at("config");
    nn::Builder builder({.height = extent(1, height),
                         .width = extent(2, width),
                         .channels = shape->at(3),
                         .name = config.is_object() ? config.value("name", "keras") : "keras"});
    const Node output = Reader(builder, 0).model(model, builder.input());
    return builder.build(output);
  } catch (const Json::exception& error) {
    fail("[convert] the Keras architecture cannot be read: {}", error.what());
  }
}

}  // namespace graft::io
