// Keras 3's layout: `<path of the layer>/vars/<i>`. The path follows the attributes of Python objects
// (`layers/conv2d_1`, `block1/layers/conv2d`); the numbers follow the creation of the variables. Since Keras 3.6 `vars`
// has the layer's name as an attribute. TensorFlow 2.12 to 2.14 wrote
// `_layer_checkpoint_dependencies` for `layers`, counted weighted layers twice, and on Windows put backslashes into
// single link names.
#include <algorithm>
#include <charconv>
#include <set>

#include "core/format.h"
#include "io/keras.h"

namespace graft::io {
namespace {

using Parts = std::vector<std::string>;

Parts split(std::string_view path) {
  Parts parts;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find_first_of("/\\", begin), path.size());
    if (end > begin) parts.emplace_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::string join(Parts::const_iterator begin, Parts::const_iterator end) {
  return fmt::format("{}", fmt::join(begin, end, "/"));
}

bool is_layer_list(const std::string& part) { return part == "layers" || part == "_layer_checkpoint_dependencies"; }

std::string without_counter(const std::string& name) {
  const std::size_t end = name.find_last_not_of("0123456789");
  return end != std::string::npos && end + 1 < name.size() && name[end] == '_' ? name.substr(0, end) : name;
}

// What is known of a group that stands in a list of layers.
struct Place {
  std::string type;
  int rank = -1;
  const KerasArchitecture::Layer* layer = nullptr;
};

// Ranks the groups of every list of layers by type and finds them in the architecture, parents first.
class Places {
 public:
  explicit Places(const KerasArchitecture& architecture) : architecture_(architecture) {}

  void add(const Parts& parts) {
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      if (!is_layer_list(parts[i])) continue;
      const auto at = parts.begin() + static_cast<std::ptrdiff_t>(i);
      const std::string path = join(parts.begin(), at + 2);
      if (places_.contains(path)) continue;
      const std::string parent = join(parts.begin(), at);
      Place place{without_counter(parts[i + 1]), 0, nullptr};
      place.rank = counts_[{parent, place.type}]++;
      const auto known = places_.find(parent);
      const KerasArchitecture::Layer* model = parent.empty()           ? &architecture_.root()
                                              : known != places_.end() ? known->second.layer
                                                                       : nullptr;
      if (model != nullptr) place.layer = model->ranked(place.type, place.rank);
      places_.emplace(path, place);
    }
  }

  Place find(const std::string& path) const {
    const auto found = places_.find(path);
    return found == places_.end() ? Place{} : found->second;
  }

 private:
  const KerasArchitecture& architecture_;
  std::map<std::string, Place> places_;
  std::map<std::pair<std::string, std::string>, int> counts_;
};

// Names the numbered variables of a layer after its class, or where that is unknown after their shapes. What neither
// tells keeps its number.
void name_variables(const std::string& type, const KerasArchitecture::Layer* layer,
                    std::vector<WeightTensor>& tensors) {
  const auto rank = [&](std::size_t i) { return tensors[i].value.shape().rank(); };
  const std::size_t count = tensors.size();
  std::vector<std::string> names;
  const bool vectors = std::all_of(tensors.begin(), tensors.end(), [&](const WeightTensor& t) {
    return t.value.shape().rank() == 1 && t.value.shape() == tensors.front().value.shape();
  });
  if (vectors && (type == "batch_normalization" || (type.empty() && count == 4))) {
    // Without an architecture three vectors are taken for scale=False, InceptionV3's choice; center=False is rare.
    const bool scale = layer != nullptr ? layer->scale : count == 4;
    const bool center = layer != nullptr ? layer->center : count >= 3;
    if (scale) names.emplace_back("gamma");
    if (center) names.emplace_back("beta");
    names.insert(names.end(), {"moving_mean", "moving_variance"});
  } else if (type == "layer_normalization" && count == 2) {
    names = {"gamma", "beta"};
  } else if (type == "embedding" && count == 1) {
    names = {"embeddings"};
  } else if (type.starts_with("separable_conv")) {
    names = {"depthwise_kernel", "pointwise_kernel", "bias"};
    if (count == 2) names.pop_back();
  } else if (count >= 1 && count <= 2 && rank(0) >= 2 && (count == 1 || rank(1) < rank(0))) {
    names = {"kernel", "bias"};
    names.resize(count);
  }
  if (names.size() != count) return;
  for (std::size_t i = 0; i < count; ++i) tensors[i].name = names[i];
}

struct Group {
  std::string path;                                            // of the layer
  std::string name;                                            // the attribute, or empty
  std::vector<std::pair<std::string, std::string>> variables;  // last part and HDF5 path
};

bool is_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

WeightLayer read_layer(const Hdf5File& file, const Group& group, const Place& place,
                       const KerasArchitecture& architecture) {
  WeightLayer layer;
  const Parts parts = split(group.path);
  layer.path = join(parts.begin() + (!parts.empty() && is_layer_list(parts.front()) ? 1 : 0), parts.end());
  layer.type = place.type;
  layer.rank = place.rank;
  const KerasArchitecture::Layer* known = place.layer;
  if (!group.name.empty() && (known == nullptr || known->name != group.name)) known = architecture.named(group.name);
  if (known != nullptr) layer.type = known->type;
  layer.name = !group.name.empty() ? group.name : known != nullptr ? known->name : layer.path;

  bool numbered = true;
  for (const auto& [name, source] : group.variables) {
    numbered = numbered && name == std::to_string(layer.tensors.size());
    check(numbered || !is_number(name), "[keras] {}: /{}: expected variable {}, got {}: the numbers have a gap",
          file.name(), source, layer.tensors.size(), name);
    layer.tensors.push_back(
        {is_number(name) ? name : parse_keras_variable(name).variable, file.dataset(source), "/" + source});
  }
  if (numbered) name_variables(layer.type, known, layer.tensors);
  return layer;
}

}  // namespace

std::vector<WeightLayer> read_keras_v3(const Hdf5File& file, const std::vector<Hdf5File::Object>& objects,
                                       const KerasArchitecture& architecture) {
  Places places(architecture);
  std::vector<Group> groups;
  std::map<std::string, std::size_t> group_of;
  for (const auto& [source, kind] : objects) {
    const Parts parts = split(source);
    if (parts.empty()) continue;
    // Neither belongs to the network: the optimizer's moments, and the counters of dropout's random numbers.
    if (parts.front() == "optimizer" ||
        std::any_of(parts.begin(), parts.end(), [](const auto& p) { return p.starts_with("seed_generator"); }))
      continue;
    places.add(parts);
    const bool is_vars = kind == Hdf5File::Kind::group && parts.back() == "vars";
    const bool is_variable = kind == Hdf5File::Kind::dataset && parts.size() >= 2 && parts[parts.size() - 2] == "vars";
    if (!is_vars && !is_variable) continue;
    const std::string path = join(parts.begin(), parts.end() - (is_vars ? 1 : 2));
    const auto [found, added] = group_of.emplace(path, groups.size());
    if (added) groups.push_back({path, "", {}});
    if (is_vars)
      groups[found->second].name = file.text(source, "name");
    else
      groups[found->second].variables.emplace_back(parts.back(), source);
  }

  std::vector<std::pair<int, WeightLayer>> placed;
  for (const Group& group : groups) {
    if (group.variables.empty()) continue;
    const Place place = places.find(group.path);
    WeightLayer layer = read_layer(file, group, place, architecture);
    const auto* known =
        place.layer != nullptr && place.layer->name == layer.name ? place.layer : architecture.named(layer.name);
    placed.emplace_back(known != nullptr ? known->position : INT32_MAX, std::move(layer));
  }
  std::stable_sort(placed.begin(), placed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<WeightLayer> layers;
  layers.reserve(placed.size());
  for (auto& [position, layer] : placed) layers.push_back(std::move(layer));
  make_names_unique(layers);
  return layers;
}

}  // namespace graft::io
