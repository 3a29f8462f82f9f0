// Each type of layer as the call that LibTorch's modules make for it.
#include <array>
#include <stdexcept>

#include "network.h"

namespace peer {
namespace {

using Pair = std::array<std::int64_t, 2>;

at::Tensor activate(const at::Tensor& x, const std::string& function, bool in_place) {
  if (function == "linear") return x;
  if (function == "relu") return in_place ? at::relu_(const_cast<at::Tensor&>(x)) : at::relu(x);
  if (function == "relu6") return in_place ? at::hardtanh_(const_cast<at::Tensor&>(x), 0, 6) : at::hardtanh(x, 0, 6);
  if (function == "gelu") return at::gelu(x);
  throw std::runtime_error("LibTorch's side has no activation '" + function + "'");
}

// Kernel, stride and padding. Where more is padded on one side than on the other, the image is padded beforehand.
struct Window {
  Pair kernel, stride, dilation;
  std::vector<std::int64_t> padding;  // top, bottom, left, right, or -1: as much as Keras's "same" takes

  explicit Window(const nlohmann::json& options)
      : kernel(options.at("kernel")),
        stride(options.at("stride")),
        dilation(options.at("dilation")),
        padding(options.at("padding")) {}

  std::array<std::int64_t, 4> sides(const at::Tensor& x) const {
    if (padding.size() == 4) return {padding[0], padding[1], padding[2], padding[3]};
    std::array<std::int64_t, 4> both{};
    for (std::size_t axis = 0; axis < 2; ++axis) {
      const std::int64_t size = x.size(static_cast<std::int64_t>(axis) + 2), steps = (size - 1) / stride[axis];
      const std::int64_t total =
          std::max<std::int64_t>(0, steps * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1 - size);
      both[2 * axis] = total / 2;
      both[2 * axis + 1] = total - total / 2;
    }
    return both;
  }

  // The image, padded if it has to be, and the padding that is left for the call itself.
  std::pair<at::Tensor, Pair> prepare(const at::Tensor& x) const {
    const auto [top, bottom, left, right] = sides(x);
    if (top == bottom && left == right) return {x, {top, left}};
    return {at::constant_pad_nd(x, {left, right, top, bottom}), {0, 0}};
  }
};

at::Tensor optional(const Layer& layer, const std::string& name) {
  const auto found = layer.tensors.find(name);
  return found == layer.tensors.end() ? at::Tensor() : found->second;
}

Step convolution(const Layer& layer, bool depthwise) {
  return [window = Window(layer.options), weight = layer.tensors.at("weight"), bias = optional(layer, "bias"),
          groups = depthwise ? layer.tensors.at("weight").size(0) : layer.options.at("groups").get<std::int64_t>(),
          function = layer.options.at("activation").get<std::string>()](const Values& in, bool) {
    const auto [x, padding] = window.prepare(in[0]);
    return activate(at::conv2d(x, weight, bias, window.stride, padding, window.dilation, groups), function, true);
  };
}

Step conv2d(const Layer& layer) { return convolution(layer, false); }
Step depthwise_conv2d(const Layer& layer) { return convolution(layer, true); }

Step linear(const Layer& layer) {
  return [weight = layer.tensors.at("weight"), bias = optional(layer, "bias"),
          function = layer.options.at("activation").get<std::string>()](const Values& in, bool) {
    return activate(at::linear(in[0], weight, bias), function, true);
  };
}

Step batch_norm(const Layer& layer) {
  const at::Tensor mean = layer.tensors.at("moving_mean"), variance = layer.tensors.at("moving_variance");
  // Without a scale PyTorch would leave its fast kernel.
  const at::Tensor gamma = layer.options.at("scale") ? layer.tensors.at("gamma") : at::ones_like(mean);
  return [=, beta = optional(layer, "beta"), momentum = 1 - layer.options.at("momentum").get<double>(),
          epsilon = layer.options.at("epsilon").get<double>(),
          batch = layer.batch_statistics](const Values& in, bool training) {
    return at::batch_norm(in[0], gamma, beta, mean, variance, training && batch, momentum, epsilon, false);
  };
}

Step layer_norm(const Layer& layer) {
  return [gamma = layer.tensors.at("gamma"), beta = layer.tensors.at("beta"),
          epsilon = layer.options.at("epsilon").get<double>()](const Values& in, bool) {
    return at::layer_norm(in[0], gamma.sizes(), gamma, beta, epsilon);
  };
}

Step zero_pad(const Layer& layer) {
  return [p = layer.options.at("padding").get<std::array<std::int64_t, 4>>()](const Values& in, bool) {
    return at::constant_pad_nd(in[0], {p[2], p[3], p[0], p[1]});
  };
}

Step max_pool(const Layer& layer) {
  return [window = Window(layer.options)](const Values& in, bool) {
    const auto [top, bottom, left, right] = window.sides(in[0]);
    if (top != bottom || left != right) throw std::runtime_error("LibTorch's max_pool2d pads both sides alike");
    return at::max_pool2d(in[0], window.kernel, window.stride, {top, left}, window.dilation);
  };
}

Step average_pool(const Layer& layer) {
  return [window = Window(layer.options)](const Values& in, bool) {
    const auto [top, bottom, left, right] = window.sides(in[0]);
    if (top != bottom || left != right) throw std::runtime_error("LibTorch's avg_pool2d pads both sides alike");
    return at::avg_pool2d(in[0], window.kernel, window.stride, {top, left}, false, /*count_include_pad=*/false);
  };
}

Step global_average_pool(const Layer& layer) {
  return [keep = layer.options.at("keep_dims").get<bool>()](const Values& in, bool) {
    return at::mean(in[0], {2, 3}, keep);
  };
}

Step dropout(const Layer& layer) {
  return [rate = layer.options.at("rate").get<double>()](const Values& in, bool training) {
    return at::dropout(in[0], rate, training);
  };
}

// graft flattens and reshapes channels last.
at::Tensor channels_last(const at::Tensor& x) { return x.dim() == 4 ? x.permute({0, 2, 3, 1}) : x; }

Step flatten(const Layer&) {
  return [](const Values& in, bool) { return channels_last(in[0]).flatten(1); };
}

Step reshape(const Layer& layer) {
  return [shape = layer.options.at("shape").get<std::vector<std::int64_t>>()](const Values& in, bool) {
    std::vector<std::int64_t> target{in[0].size(0)};
    target.insert(target.end(), shape.begin(), shape.end());
    return channels_last(in[0]).reshape(target);
  };
}

Step add(const Layer&) {
  return [](const Values& in, bool) { return in[0] + in[1]; };
}

Step concat(const Layer&) {
  return [](const Values& in, bool) { return at::cat(in, 1); };
}

Step class_token(const Layer& layer) {
  return [token = layer.tensors.at("weight")](const Values& in, bool) {
    return at::cat({token.expand({in[0].size(0), 1, -1}).to(in[0].scalar_type()), in[0]}, 1);
  };
}

Step position_embedding(const Layer& layer) {
  return [position = layer.tensors.at("weight")](const Values& in, bool) { return in[0] + position; };
}

Step self_attention(const Layer& layer) {
  return [heads = layer.options.at("heads").get<std::int64_t>()](const Values& in, bool) {
    const std::int64_t n = in[0].size(0), width = in[0].size(2) / 3;
    const auto qkv = in[0].reshape({n, -1, 3, heads, width / heads}).permute({2, 0, 3, 1, 4}).unbind(0);
    return at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2]).transpose(1, 2).reshape({n, -1, width});
  };
}

Step take_token(const Layer& layer) {
  return [position = layer.options.at("position").get<std::int64_t>()](const Values& in, bool) {
    return in[0].select(1, position);
  };
}

// The last one is left out: losses want logits.
Step softmax(const Layer&) {
  return [](const Values& in, bool) { return in[0]; };
}

}  // namespace

Step make_step(const Layer& layer, bool in_place) {
  static const std::map<std::string, Step (*)(const Layer&)> kinds{
      {"conv2d", conv2d},
      {"depthwise_conv2d", depthwise_conv2d},
      {"linear", linear},
      {"batch_norm", batch_norm},
      {"layer_norm", layer_norm},
      {"zero_pad", zero_pad},
      {"max_pool", max_pool},
      {"average_pool", average_pool},
      {"global_average_pool", global_average_pool},
      {"dropout", dropout},
      {"flatten", flatten},
      {"reshape", reshape},
      {"add", add},
      {"concat", concat},
      {"class_token", class_token},
      {"position_embedding", position_embedding},
      {"self_attention", self_attention},
      {"take_token", take_token},
      {"softmax", softmax},
  };
  if (layer.type == "activation") {
    return [function = layer.options.at("function").get<std::string>(), in_place](const Values& in, bool) {
      return activate(in[0], function, in_place);
    };
  }
  const auto found = kinds.find(layer.type);
  if (found == kinds.end()) throw std::runtime_error("LibTorch's side has no layer '" + layer.type + "'");
  return found->second(layer);
}

}  // namespace peer
