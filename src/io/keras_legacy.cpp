// The layout of Keras before version 3, which Keras 3 still writes for `.h5`: the root's attribute `layer_names` lists
// the layers, each group's `weight_names` its variables. Group iteration is alphabetical and means nothing.
#include <algorithm>

#include "core/format.h"
#include "io/keras.h"

namespace graft::io {
namespace {

std::string join(const std::string& a, const std::string& b) { return a.empty() ? b : b.empty() ? a : a + "/" + b; }
std::string last_part(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// A list that may be split over name0, name1, ... because HDF5 keeps at most 64 KiB in an attribute.
std::vector<std::string> string_list(const Hdf5File& file, const std::string& group, const std::string& name) {
  if (auto whole = file.strings(group, name.c_str())) return *whole;
  std::vector<std::string> list;
  for (int k = 0;; ++k) {
    const auto part = file.strings(group, fmt::format("{}{}", name, k).c_str());
    if (!part) {
      check(k > 0, "[keras] {}: /{}: the attribute '{}' is missing", file.name(), group, name);
      return list;
    }
    list.insert(list.end(), part->begin(), part->end());
  }
}

struct Variable {
  std::string source;  // HDF5 path
  KerasVariable name;
};

// Whether the variables of a group are those of inner layers. One owner that is not called like the group is a nested
// model with one layer if the architecture says so; without an architecture, an owner such as `conv1_1` or
// `training/conv1` is the layer itself in a scope that TensorFlow made unique.
bool is_nested(const std::string& group, const std::vector<Variable>& variables,
               const KerasArchitecture& architecture) {
  const auto differs = [&](const Variable& v) { return v.name.owner != variables.front().name.owner; };
  if (std::any_of(variables.begin(), variables.end(), differs)) return true;
  const KerasArchitecture::Layer* layer = architecture.named(group);
  return layer != nullptr && layer->is_model;
}

// The layers of one group, in the order in which they first appear. A nested trainable model lists all moving
// statistics after all other variables, so the variables of one layer need not be neighbours.
void read_group(const Hdf5File& file, const std::string& root, const std::string& group,
                const KerasArchitecture& architecture, std::vector<WeightLayer>& layers) {
  std::vector<Variable> variables;
  for (const std::string& name : string_list(file, join(root, group), "weight_names")) {
    variables.push_back({join(join(root, group), name), parse_keras_variable(name)});
  }
  if (variables.empty()) return;
  const bool nested = is_nested(group, variables, architecture);
  const auto first = static_cast<std::ptrdiff_t>(layers.size());
  for (const auto& [source, name] : variables) {
    const std::string path = nested ? join(group, name.owner) : group;
    auto layer =
        std::find_if(layers.begin() + first, layers.end(), [&](const WeightLayer& l) { return l.path == path; });
    if (layer == layers.end()) {
      WeightLayer added;
      added.name = last_part(path);
      added.path = path;
      if (const auto* known = architecture.named(added.name)) added.type = known->type;
      layers.push_back(std::move(added));
      layer = layers.end() - 1;
    }
    layer->tensors.push_back({name.variable, file.dataset(source), "/" + source});
  }
}

}  // namespace

std::vector<WeightLayer> read_keras_legacy(const Hdf5File& file, const std::string& root,
                                           const KerasArchitecture& architecture) {
  std::vector<WeightLayer> layers;
  for (const std::string& group : string_list(file, root, "layer_names")) {
    check(file.kind(join(root, group)) == Hdf5File::Kind::group,
          "[keras] {}: /{}: layer_names lists a layer '{}' that has no group", file.name(), root, group);
    read_group(file, root, group, architecture, layers);
  }
  make_names_unique(layers);
  return layers;
}

}  // namespace graft::io
