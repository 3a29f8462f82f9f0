#include <array>
#include <cctype>

#include <nlohmann/json.hpp>

#include "core/format.h"
#include "io/keras.h"

namespace graft::io {
namespace {

using Json = nlohmann::json;

constexpr int kDeepestModel = 32;

struct Synonym {
  std::string_view in_file, today;
};
// Longer endings first: `running_mean` must not be taken for a layer called `running` with ... `mean`.
constexpr std::array<Synonym, 11> kSynonyms = {
    {{"depthwise_kernel", "kernel"},
     {"moving_variance", "moving_variance"},
     {"moving_mean", "moving_mean"},
     {"running_mean", "moving_mean"},
     {"running_std", "moving_variance"},  // Keras 1 gave the variance this name
     {"kernel", "kernel"},
     {"gamma", "gamma"},
     {"beta", "beta"},
     {"bias", "bias"},
     {"W", "kernel"},
     {"b", "bias"}}};

std::string_view without_counter(std::string_view name) {
  const std::size_t end = name.find_last_not_of("0123456789");
  return end != std::string_view::npos && end + 1 < name.size() && name[end] == '_' ? name.substr(0, end) : name;
}

const Json* member(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

std::string text_of(const Json& object, const char* key) {
  const Json* value = member(object, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

bool flag_of(const Json& object, const char* key, bool otherwise) {
  const Json* value = member(object, key);
  return value != nullptr && value->is_boolean() ? value->get<bool>() : otherwise;
}

// The list of layers of a model: under config.layers, or config itself in old Sequential models. Null for anything that
// is not a model.
const Json* layers_of(const Json& model) {
  const Json* config = member(model, "config");
  if (config == nullptr) return nullptr;
  if (config->is_array()) return config;
  const Json* layers = member(*config, "layers");
  return layers != nullptr && layers->is_array() ? layers : nullptr;
}

void add_layers(const std::string& where, const Json& model, int depth, int& position,
                KerasArchitecture::Layer& parent) {
  check(depth <= kDeepestModel, "{}: models nest deeper than {}", where, kDeepestModel);
  const Json* layers = layers_of(model);
  if (layers == nullptr) return;
  parent.is_model = true;
  for (const Json& json : *layers) {
    auto layer = std::make_unique<KerasArchitecture::Layer>();
    const Json* config = member(json, "config");
    const Json empty = Json::object();
    const Json& settings = config != nullptr ? *config : empty;
    layer->name = text_of(settings, "name").empty() ? text_of(json, "name") : text_of(settings, "name");
    layer->type = snake_case(text_of(json, "class_name"));
    layer->scale = flag_of(settings, "scale", true);
    layer->center = flag_of(settings, "center", true);
    layer->position = position++;
    add_layers(where, json, depth + 1, position, *layer);
    parent.layers.push_back(std::move(layer));
  }
}

void index_names(const KerasArchitecture::Layer& parent,
                 std::map<std::string, const KerasArchitecture::Layer*>& by_name) {
  for (const auto& layer : parent.layers) {
    const auto [found, inserted] = by_name.emplace(layer->name, layer.get());
    if (!inserted) found->second = nullptr;
    index_names(*layer, by_name);
  }
}

}  // namespace

KerasVariable parse_keras_variable(std::string_view weight_name) {
  if (weight_name.ends_with(":0")) weight_name.remove_suffix(2);
  const std::size_t slash = weight_name.rfind('/');
  const bool scoped = slash != std::string_view::npos;
  const std::string owner(scoped ? weight_name.substr(0, slash) : "");
  const std::string_view full = scoped ? weight_name.substr(slash + 1) : weight_name;
  const std::string_view last = without_counter(full);
  for (const auto& [in_file, today] : kSynonyms) {
    if (last == in_file) return {owner, std::string(today)};
    // Keras 1 put layer and variable into one word.
    const bool joined = !scoped && last.size() > in_file.size() && last.ends_with(in_file) &&
                        last[last.size() - in_file.size() - 1] == '_';
    if (joined) return {std::string(last.substr(0, last.size() - in_file.size() - 1)), std::string(today)};
  }
  return {owner, std::string(full)};
}

std::string snake_case(std::string_view class_name) {
  const auto upper = [&](std::size_t i) {
    return i < class_name.size() && std::isupper(static_cast<unsigned char>(class_name[i])) != 0;
  };
  const auto lower = [&](std::size_t i) {
    return i < class_name.size() && std::islower(static_cast<unsigned char>(class_name[i])) != 0;
  };
  std::string snake;
  for (std::size_t i = 0; i < class_name.size(); ++i) {
    const char c = class_name[i];
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_') continue;
    if (i > 0 && upper(i) && (lower(i + 1) || lower(i - 1)) && !snake.empty() && snake.back() != '_')
      snake.push_back('_');
    snake.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  }
  return snake;
}

const KerasArchitecture::Layer* KerasArchitecture::Layer::ranked(std::string_view layer_type, int rank) const {
  for (const auto& layer : layers) {
    if (layer->type == layer_type && rank-- == 0) return layer.get();
  }
  return nullptr;
}

KerasArchitecture::KerasArchitecture(const std::string& where, const std::string& model_config) {
  if (model_config.empty()) return;
  const Json json = Json::parse(model_config, nullptr, /*allow_exceptions=*/false);
  check(json.is_object(), "{}: the model's configuration is not a JSON object", where);
  int position = 0;
  add_layers(where, json, 0, position, root_);
  index_names(root_, by_name_);
}

const KerasArchitecture::Layer* KerasArchitecture::named(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

void make_names_unique(std::vector<WeightLayer>& layers) {
  std::map<std::string, int> uses;
  for (const WeightLayer& layer : layers) ++uses[layer.name];
  for (WeightLayer& layer : layers) {
    if (uses[layer.name] > 1) layer.name = layer.path;
  }
}

}  // namespace graft::io
