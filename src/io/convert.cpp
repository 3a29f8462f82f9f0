#include "io/convert.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <regex>
#include <set>

#include <fnmatch.h>
#include <nlohmann/json.hpp>

#include "core/format.h"
#include "io/keras_graph.h"

namespace graft::io {
namespace {

bool matches_any(const std::vector<std::string>& globs, const std::string& name) {
  return std::any_of(globs.begin(), globs.end(),
                     [&](const std::string& glob) { return fnmatch(glob.c_str(), name.c_str(), 0) == 0; });
}

bool is_channels_first(const WeightFile& file) { return file.format == "pytorch" || file.format == "safetensors"; }

// The classifier's layer in each family, and the number of its outputs.
std::optional<Index> top_classes(const WeightFile& file) {
  for (const char* name : {"predictions", "fc1000", "conv_preds", "_fc", "classifier", "head"}) {
    const WeightLayer* layer = file.find(name);
    const Tensor* bias = layer == nullptr ? nullptr : layer->find("bias");
    if (bias != nullptr && bias->shape().rank() == 1) return bias->shape()[0];
  }
  // Without names: a dense layer, or MobileNet's last convolution, which is the only one with a bias.
  for (const WeightLayer& layer : file.layers) {
    const Tensor* bias = layer.find("bias");
    if (layer.type == "dense" && bias != nullptr && &layer == &file.layers.back()) return bias->shape()[0];
  }
  return std::nullopt;
}

// MobileNet's last depthwise convolution has 1024 channels times alpha, rounded down, which is the width of all others
// too: each has a power of two of them less.
std::optional<double> mobilenet_alpha(const WeightFile& file) {
  constexpr double kChannels = 1024;
  Index most = 0;
  for (const WeightLayer& layer : file.layers) {
    for (const char* name : {"depthwise_kernel", "kernel"}) {
      const Tensor* kernel = layer.find(name);
      if (kernel != nullptr && kernel->shape().rank() == 4 && kernel->shape()[0] == 3 && kernel->shape()[3] == 1)
        most = std::max(most, kernel->shape()[2]);
    }
  }
  if (most == 0) return std::nullopt;
  const double least = static_cast<double>(most) / kChannels;
  for (const double decimals : {10, 100, 1000}) {  // the number that somebody typed
    const double typed = std::ceil(least * decimals) / decimals;
    if (static_cast<Index>(kChannels * typed) == most) return typed;
  }
  return least;
}

// The image preprocessing that goes with the name of a Keras model, wherever it stands in the architecture.
std::string preprocessing_of_keras_model(const std::string& config) {
  static const std::regex kName(
      "\"name\" *: *\"(vgg16|vgg19|resnet50|resnet101|resnet152|mobilenet|inception_v3)(v2)?[^\"]*\"");
  std::smatch found;
  if (!std::regex_search(config, found, kName)) return {};
  const std::string name = found[1];
  const bool second = found[2].matched;  // ResNet50V2 and its like
  return name.starts_with("vgg") || (name.starts_with("resnet") && !second) ? "caffe" : "tf";
}

// Where a head is grafted on a network that was read from an architecture: the last value that is still an image. Its
// own head begins with a pool of whole images, or flattens them; the shape alone does not tell, for the last images of
// small photos are single pixels.
std::string last_image(const nn::Network& network) {
  const Shape& in = network.input_shape();
  const nn::Program program = network.lower({1, in[0], in[1], in[2]});
  const auto shape_of = [&](const std::string& node) { return program[program.node(node)].spec.shape; };
  const auto is_image = [&](const std::string& node) { return shape_of(node).rank() == 4; };
  const std::vector<nn::NodeEntry>& nodes = network.nodes();
  const Shape output = shape_of(nodes.back().name);
  const bool ends_in_images = output.rank() == 4 && output[1] * output[2] > 1;
  for (std::size_t i = nodes.size(); !ends_in_images && i-- > 1;) {
    const std::string_view type = network.layers()[static_cast<std::size_t>(nodes[i].layer)].layer->type();
    const std::string& before = nodes[static_cast<std::size_t>(nodes[i].inputs.front())].name;
    if ((type == "global_average_pool" || type == "global_max_pool" || type == "flatten") && is_image(before))
      return before;
  }
  const auto last = std::find_if(nodes.rbegin(), nodes.rend(), [&](const auto& node) { return is_image(node.name); });
  return last == nodes.rend() ? std::string() : last->name;
}

nn::Network build(const WeightFile& file, const ConvertOptions& options, const WeightMap* map,
                  std::vector<std::string>& notes) {
  check(map == nullptr || map->model.empty() || options.model.empty() || options.model == map->model,
        "the map is for the model '{}', --model asks for '{}'", map == nullptr ? "" : map->model, options.model);
  const std::string asked = !options.model.empty() ? options.model : map != nullptr ? map->model : "";
  if (asked.empty() && !file.model_config.empty()) {
    check(!options.alpha, "the file holds the architecture: --alpha is for files of weights alone");
    nn::Network network = network_from_keras(file.model_config, options.input_size, options.input_size);
    network.features = last_image(network);
    const std::string mode = preprocessing_of_keras_model(file.model_config);
    const Preprocessing size = network.preprocessing;
    network.preprocessing = preprocessing_by_name(mode.empty() ? "none" : mode, size.height);
    network.preprocessing.height = size.height;
    network.preprocessing.width = size.width;
    if (options.preprocessing.empty() && !(map != nullptr && map->preprocessing)) {
      notes.push_back(fmt::format(
          "the file does not say how images are prepared: {} (say otherwise with --preprocessing)",
          mode.empty() ? "pixels are taken as 0 to 255" : fmt::format("taken as '{}', by the model's name", mode)));
    }
    return network;
  }
  const std::string model = asked.empty() ? detect_model(file) : asked;
  check(!model.empty(), "the file does not say which model its weights belong to; name it with --model ({})",
        fmt::join(models::names(), ", "));
  models::Options o{.height = options.input_size, .width = options.input_size};
  const std::optional<Index> classes = top_classes(file);
  o.include_top =
      map != nullptr && map->include_top ? *map->include_top : classes.has_value() || is_channels_first(file);
  if (classes) o.classes = *classes;
  if (model == "mobilenet") {
    if (options.alpha)
      o.alpha = *options.alpha;
    else if (const auto alpha = mobilenet_alpha(file))
      o.alpha = *alpha;
    // Its top may stand in a file without names: a convolution more than the backbone has.
    const auto convolutions =
        std::count_if(file.layers.begin(), file.layers.end(), [](const WeightLayer& l) { return l.type == "conv2d"; });
    constexpr int kBackboneConvolutions = 14;
    if (!classes && convolutions == kBackboneConvolutions + 1) {
      o.include_top = true;
      for (const WeightLayer& layer : file.layers) {
        const Tensor* bias = layer.find("bias");
        if (layer.type == "conv2d" && bias != nullptr) o.classes = bias->elements();
      }
    }
  } else if (options.alpha) {
    o.alpha = *options.alpha;
  }
  notes.push_back(fmt::format(
      "model {}{}{}", model, o.include_top ? fmt::format(" with its top of {} classes", o.classes) : " without its top",
      model == "mobilenet" ? fmt::format(", width {}", o.alpha) : ""));
  if (asked.empty() && model == "efficientnet_lite0" && is_channels_first(file))
    notes.push_back(
        "weights of timm's tf_efficientnet_lite0 and efficientnet_lite0 have the same names: taken as the former's, "
        "which "
        "pads as TensorFlow does (for the latter's, --model timm_efficientnet_lite0)");
  nn::Network network = models::make(model, o);
  const bool torchvision = is_channels_first(file) && model.starts_with("vgg");  // timm's have models of their own
  if (torchvision) network.preprocessing = torch_preprocessing(network.preprocessing.height);
  const Preprocessing& usual = network.preprocessing;
  if (options.input_size == 0) {
    notes.push_back(
        fmt::format("the file does not say the size of images: taken as {}x{}, {}'s usual (say otherwise with "
                    "--input-size)",
                    usual.height, usual.width, model));
  }
  if (options.preprocessing.empty() && !(map != nullptr && map->preprocessing)) {
    notes.push_back(
        fmt::format("the file does not say how images are prepared: taken as {} did (say otherwise with "
                    "--preprocessing)",
                    torchvision ? "torchvision" : model + "'s authors"));
  }
  return network;
}

void assign(nn::Network& network, const WeightFile& file, const WeightMap* map, ConversionReport& report) {
  std::set<std::string> open;
  for (const auto& [name, unused] : network.parameter_table()) open.insert(name);
  const std::vector<LayerMatch> matches = match_layers(network, file, map, report.notes);
  std::set<const WeightLayer*> used;
  for (const auto& [from, to] : matches) {
    used.insert(from);
    check(network.has_layer(to), "the map sends '{}' to layer '{}', which {} does not have", from->path, to,
          network.name);
    const nn::LayerEntry& layer = network.layer(to);
    for (const WeightTensor& tensor : from->tensors) {
      if (tensor.name == "num_batches_tracked") continue;  // PyTorch's counter of training steps
      const Placement placed = place(network, layer, tensor, is_channels_first(file));
      const std::string name = to + "/" + placed.parameter;
      const auto parameter = network.parameter_table().find(name);
      if (parameter == network.parameter_table().end()) {
        report.unexpected.push_back(tensor.source);
      } else if (!(placed.value.shape() == parameter->second->shape)) {
        report.mismatched.push_back(fmt::format("{}: expected {}, got {} ({} as {} in the file)", name,
                                                parameter->second->shape, placed.value.shape(), tensor.source,
                                                tensor.value.shape()));
        open.erase(name);
      } else if (open.erase(name) == 0) {
        report.mismatched.push_back(fmt::format("{}: given twice, the second time by {}", name, tensor.source));
      } else {
        parameter->second->value = placed.value;
        report.matched.push_back({name, tensor.source});
      }
    }
  }
  for (const WeightLayer& layer : file.layers) {
    const bool ignored =
        map != nullptr && std::any_of(map->ignore.begin(), map->ignore.end(), [&](const std::string& pattern) {
          return std::regex_match(layer.path, std::regex(pattern));
        });
    if (used.contains(&layer) || ignored) continue;
    for (const WeightTensor& tensor : layer.tensors) {
      if (tensor.name != "num_batches_tracked") report.unexpected.push_back(tensor.source);
    }
  }
  report.missing.assign(open.begin(), open.end());
}

void forgive(ConversionReport& report, const std::vector<std::string>& allowed) {
  const auto strip = [&](std::vector<std::string>& gaps, std::string_view what) {
    std::vector<std::string> left;
    for (const std::string& gap : gaps) {
      if (!matches_any(allowed, gap.substr(0, gap.find(": "))))
        left.push_back(gap);
      else
        report.notes.push_back(fmt::format("{} and allowed: {}", what, gap));
    }
    gaps = std::move(left);
  };
  strip(report.missing, "missing");
  strip(report.unexpected, "unexpected");
  strip(report.mismatched, "mismatched");
}

}  // namespace

std::string ConversionReport::to_string() const {
  std::string text = fmt::format("{} matched, {} missing, {} unexpected, {} mismatched\n", matched.size(),
                                 missing.size(), unexpected.size(), mismatched.size());
  for (const std::string& note : notes) text += fmt::format("  note        {}\n", note);
  for (const std::string& name : missing) text += fmt::format("  missing     {}\n", name);
  for (const std::string& name : unexpected) text += fmt::format("  unexpected  {}\n", name);
  for (const std::string& row : mismatched) text += fmt::format("  mismatched  {}\n", row);
  return text;
}

Conversion convert(const std::filesystem::path& path, const ConvertOptions& options) {
  const WeightFile file = read_weights(path);
  check(file.format != "graft", "{}: is a network of graft already: there is nothing to convert", path.string());
  std::optional<WeightMap> map;
  if (!options.map.empty()) map = read_weight_map(options.map);
  try {
    Conversion result;
    result.network = build(file, options, map ? &*map : nullptr, result.report.notes);
    nn::Network& network = result.network;
    assign(network, file, map ? &*map : nullptr, result.report);
    forgive(result.report, options.allow_partial);
    check(result.report.complete(), "the weights do not fit {}: {}", network.name, result.report.to_string());
    const Preprocessing size = network.preprocessing;
    if (!options.preprocessing.empty())
      network.preprocessing = preprocessing_by_name(options.preprocessing, size.height);
    else if (map && map->preprocessing)
      network.preprocessing = *map->preprocessing;
    network.preprocessing.height = size.height;
    network.preprocessing.width = size.width;
    network.classes = options.classes;
    network.materialize();
    return result;
  } catch (const Error& error) {
    fail("{}: {}", path.string(), error.what());
  }
}

}  // namespace graft::io
