#include <algorithm>
#include <map>
#include <regex>
#include <set>

#include "core/format.h"
#include "io/convert.h"

namespace graft::io {
namespace {

// Layers with parameters, in the order of the network's table.
std::vector<std::string> weighted(const nn::Network& network) {
  std::vector<std::string> names;
  for (const nn::LayerEntry& entry : network.layers()) {
    if (!entry.parameters.empty()) names.push_back(entry.name);
  }
  return names;
}

// Keras 1's names of ResNet's layers: res3b_branch2a is conv3_block2_1_conv, bn3b_branch2a its batch-norm, branch1 the
// shortcut.
std::string old_resnet_name(const std::string& name) {
  static const std::map<std::string, std::string> kFixed{
      {"conv1", "conv1_conv"}, {"bn_conv1", "conv1_bn"}, {"fc1000", "predictions"}};
  if (const auto fixed = kFixed.find(name); fixed != kFixed.end()) return fixed->second;
  static const std::regex kBlock("(res|bn)([2-5])([a-z])_branch(1|2([abc]))");
  std::smatch m;
  if (!std::regex_match(name, m, kBlock)) return {};
  const int block = m[3].str()[0] - 'a' + 1;
  const int part = m[4] == "1" ? 0 : m[5].str()[0] - 'a' + 1;
  return fmt::format("conv{}_block{}_{}_{}", m[2].str(), block, part, m[1] == "res" ? "conv" : "bn");
}

// timm's names of EfficientNet's layers: blocks.2.1.conv_dw is block3b_dwconv. Its batch-norms are numbered by place,
// and stage 0 has no expansion.
std::string timm_efficientnet_name(const std::string& name) {
  static const std::map<std::string, std::string> kFixed{{"conv_stem", "stem_conv"},
                                                         {"bn1", "stem_bn"},
                                                         {"conv_head", "top_conv"},
                                                         {"bn2", "top_bn"},
                                                         {"classifier", "predictions"}};
  static const std::map<std::string, std::string> kSeparable{
      {"conv_dw", "dwconv"}, {"bn1", "bn"}, {"conv_pw", "project_conv"}, {"bn2", "project_bn"}};
  static const std::map<std::string, std::string> kInverted{{"conv_pw", "expand_conv"},   {"bn1", "expand_bn"},
                                                            {"conv_dw", "dwconv"},        {"bn2", "bn"},
                                                            {"conv_pwl", "project_conv"}, {"bn3", "project_bn"}};
  if (const auto fixed = kFixed.find(name); fixed != kFixed.end()) return fixed->second;
  static const std::regex kBlock("blocks\\.([0-6])\\.([0-9])\\.(\\w+)");
  std::smatch m;
  if (!std::regex_match(name, m, kBlock)) return {};
  const auto& parts = m[1] == "0" ? kSeparable : kInverted;
  const auto part = parts.find(m[3]);
  if (part == parts.end()) return {};
  return fmt::format("block{}{}_{}", m[1].str()[0] - '0' + 1, static_cast<char>('a' + (m[2].str()[0] - '0')),
                     part->second);
}

// conv2d_17 -> 17, conv2d -> 0; -1 if the name is not of the family.
int family_number(const std::string& family, const std::string& name) {
  if (!name.starts_with(family)) return -1;
  const std::string rest = name.substr(family.size());
  if (rest.empty()) return 0;
  if (rest.size() < 2 || rest.size() > 7 || rest[0] != '_' ||
      !std::all_of(rest.begin() + 1, rest.end(), [](char c) { return c >= '0' && c <= '9'; }))
    return -1;
  return std::stoi(rest.substr(1));
}

// Numbered layers are counted from wherever the process that saved them stood: the k-th of the file is the k-th of the
// network.
void match_families(const nn::Network& network, const WeightFile& file,
                    std::map<const WeightLayer*, std::string>& found, std::vector<std::string>& notes) {
  for (const std::string family : {"conv2d", "batch_normalization", "dense", "depthwise_conv2d"}) {
    std::map<int, std::string> ours;
    for (const std::string& name : weighted(network)) {
      if (const int number = family_number(family, name); number >= 0) ours[number] = name;
    }
    std::map<int, const WeightLayer*> theirs;
    for (const WeightLayer& layer : file.layers) {
      if (const int number = family_number(family, layer.name); number >= 0) theirs[number] = &layer;
    }
    if (ours.empty() || ours.size() != theirs.size()) continue;
    auto our = ours.begin();
    for (const auto& [number, layer] : theirs) found[layer] = (our++)->second;
    if (ours.begin()->first != theirs.begin()->first) {
      notes.push_back(
          fmt::format("layers '{}_N' are matched by the order of their numbers, which start at {} in the file", family,
                      theirs.begin()->first));
    }
  }
}

std::string keras_type(const nn::LayerEntry& entry) {
  const std::string_view type = entry.layer->type();
  if (type == "linear") return "dense";
  if (type == "batch_norm") return "batch_normalization";
  if (type == "layer_norm") return "layer_normalization";
  return std::string(type);
}

// A file without names: the k-th layer of each type is the k-th of the network in Keras's order.
void match_by_rank(const nn::Network& network, const WeightFile& file,
                   std::map<const WeightLayer*, std::string>& found) {
  std::map<std::string, std::vector<std::string>> ours;
  for (const std::string& name : keras_order(network)) {
    const nn::LayerEntry& entry = network.layer(name);
    if (!entry.parameters.empty()) ours[keras_type(entry)].push_back(name);
  }
  for (const WeightLayer& layer : file.layers) {
    const auto names = ours.find(layer.type);
    if (names != ours.end() && layer.rank >= 0 && static_cast<std::size_t>(layer.rank) < names->second.size()) {
      found[&layer] = names->second[static_cast<std::size_t>(layer.rank)];
    }
  }
}

std::vector<LayerMatch> match_by_map(const WeightFile& file, const WeightMap& map) {
  std::vector<LayerMatch> matches;
  for (const WeightLayer& layer : file.layers) {
    for (const WeightMap::Rule& rule : map.layers) {
      const std::regex pattern(rule.from);
      if (!std::regex_match(layer.path, pattern)) continue;
      matches.push_back({&layer, std::regex_replace(layer.path, pattern, rule.to)});
      break;
    }
  }
  return matches;
}

}  // namespace

std::vector<LayerMatch> match_layers(const nn::Network& network, const WeightFile& file, const WeightMap* map,
                                     std::vector<std::string>& notes) {
  if (map != nullptr && !map->layers.empty()) return match_by_map(file, *map);
  std::map<const WeightLayer*, std::string> found;
  const std::vector<std::string> ours = weighted(network);
  const bool keras_3 = file.format == "keras-v3-weights" || file.format == "keras-archive";
  const bool nameless = keras_3 && std::all_of(file.layers.begin(), file.layers.end(),
                                               [](const WeightLayer& l) { return l.name == l.path; });
  const auto named = [&](const WeightLayer& layer) {
    return std::find(ours.begin(), ours.end(), layer.name) != ours.end();
  };
  if (nameless) {
    match_by_rank(network, file, found);
    notes.push_back("the file has no layer names: layers are matched by type and order");
  } else {
    std::size_t renamed = 0;
    for (const WeightLayer& layer : file.layers) {
      const std::string alias = old_resnet_name(layer.name), timm = timm_efficientnet_name(layer.name);
      if (!alias.empty() && network.has_layer(alias)) {
        found[&layer] = alias;
        ++renamed;
      } else if (!timm.empty() && network.has_layer(timm)) {
        found[&layer] = timm;
      } else if (named(layer)) {
        found[&layer] = layer.name;
      }
    }
    if (renamed > 0) notes.push_back(fmt::format("{} layers have the names that Keras 1 gave them", renamed));
    match_families(network, file, found, notes);
    const bool strangers = found.empty() && file.layers.size() == ours.size();
    for (std::size_t i = 0; strangers && i < ours.size(); ++i) found[&file.layers[i]] = ours[i];
    if (strangers) notes.push_back("no layer has a name that the model knows: layers are matched by order");
  }
  std::vector<LayerMatch> matches;
  for (const WeightLayer& layer : file.layers) {
    if (const auto match = found.find(&layer); match != found.end()) matches.push_back({&layer, match->second});
  }
  return matches;
}

std::string detect_model(const WeightFile& file) {
  std::set<std::string> names;
  std::size_t numbered = 0;
  for (const WeightLayer& layer : file.layers) {
    names.insert(layer.name);
    if (family_number("conv2d", layer.name) >= 0) ++numbered;
  }
  // The deepest layer that a model has and its smaller siblings do not; siblings come later.
  static const std::vector<std::pair<std::string, std::string>> kTelling{
      {"block5_conv4", "vgg19"},
      {"block5_conv3", "vgg16"},
      {"conv4_block36_3_conv", "resnet152"},
      {"conv4_block23_3_conv", "resnet101"},
      {"conv4_block6_3_conv", "resnet50"},
      {"res4f_branch2c", "resnet50"},
      {"conv_pw_13", "mobilenet"},
      {"_blocks.15._project_conv", "efficientnet_lite0"},
      {"blocks.6.0.conv_pwl", "efficientnet_lite0"},
      {"block7a_project_conv", "efficientnet_lite0"}};
  for (const auto& [layer, model] : kTelling) {
    if (names.contains(layer)) return model;
  }
  if (const WeightLayer* attention = file.find("blocks.11.attn.proj");
      attention != nullptr && !attention->tensors.empty()) {
    const Index width = attention->tensors.front().value.shape()[0];
    return width == 192 ? "vit_tiny" : width == 384 ? "vit_small" : width == 768 ? "vit_base" : "";
  }
  constexpr std::size_t kInceptionConvolutions = 94;
  return numbered == kInceptionConvolutions ? "inception_v3" : "";
}

std::vector<std::string> keras_order(const nn::Network& network) {
  const auto& nodes = network.nodes();
  std::vector<int> depth(nodes.size(), 0), order(nodes.size(), -1);
  for (std::size_t i = nodes.size(); i-- > 0;) {
    for (const int input : nodes[i].inputs)
      depth[static_cast<std::size_t>(input)] = std::max(depth[static_cast<std::size_t>(input)], depth[i] + 1);
  }
  // Keras numbers layers as it first meets them on a walk from the output: a node before its inputs, inputs in their
  // order.
  int next = 0;
  std::vector<int> stack{static_cast<int>(nodes.size()) - 1};
  while (!stack.empty()) {
    const auto at = static_cast<std::size_t>(stack.back());
    stack.pop_back();
    if (order[at] >= 0) continue;
    order[at] = next++;
    for (auto input = nodes[at].inputs.rbegin(); input != nodes[at].inputs.rend(); ++input) stack.push_back(*input);
  }
  std::vector<std::size_t> sorted;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].layer >= 0 && order[i] >= 0) sorted.push_back(i);
  }
  std::sort(sorted.begin(), sorted.end(), [&](std::size_t a, std::size_t b) {
    return depth[a] != depth[b] ? depth[a] > depth[b] : order[a] < order[b];
  });
  std::vector<std::string> names;
  for (const std::size_t i : sorted) {
    const std::string& layer = network.layers()[static_cast<std::size_t>(nodes[i].layer)].name;
    if (std::find(names.begin(), names.end(), layer) == names.end()) names.push_back(layer);
  }
  return names;
}

}  // namespace graft::io
