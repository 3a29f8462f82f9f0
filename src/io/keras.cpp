#include "io/keras.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "core/format.h"

namespace graft::io {
namespace {

constexpr std::uint64_t kLongestConfig = std::uint64_t{64} << 20;
constexpr const char* kWeightsMember = "model.weights.h5";

bool has_list(const Hdf5File& file, const std::string& group, const std::string& name) {
  return file.strings(group, name.c_str()).has_value() || file.strings(group, (name + "0").c_str()).has_value();
}

bool has_vars(const std::vector<Hdf5File::Object>& objects) {
  return std::any_of(objects.begin(), objects.end(), [](const Hdf5File::Object& object) {
    return object.path.ends_with("/vars") || object.path.ends_with("\\vars") ||
           object.path.find("/vars/") != std::string::npos || object.path == "vars";
  });
}

std::string first_text(const std::string& a, const std::string& b) { return a.empty() ? b : a; }

}  // namespace

WeightFile read_keras_hdf5(const Hdf5File& file) {
  WeightFile result;
  const std::string where = "[keras] " + file.name();
  const bool whole_model = !has_list(file, "", "layer_names") && file.kind("model_weights") == Hdf5File::Kind::group;
  if (whole_model || has_list(file, "", "layer_names")) {
    const std::string root = whole_model ? "model_weights" : "";
    result.format = whole_model ? "keras-legacy-model" : "keras-legacy-weights";
    result.keras_version = first_text(file.text(root, "keras_version"), file.text("", "keras_version"));
    if (whole_model) result.model_config = file.text("", "model_config");
    result.layers = read_keras_legacy(file, root, KerasArchitecture(where, result.model_config));
    return result;
  }
  const std::vector<Hdf5File::Object> objects = file.objects();
  if (has_vars(objects)) {
    result.format = "keras-v3-weights";
    result.layers = read_keras_v3(file, objects, KerasArchitecture(where, ""));
    return result;
  }
  // Keras 0.x counted its layers in an integer attribute and named nothing.
  const bool keras0 = file.has_attribute("", "nb_layers");
  check(!keras0, "{}: this was written by Keras 0.x, which stored no names: load and save it with Keras 1 or 2 first",
        where);
  std::string roots;
  for (const auto& object : objects) {
    if (object.path.find('/') == std::string::npos && roots.size() < 200)
      roots += (roots.empty() ? "" : ", ") + object.path;
  }
  fail("{}: expected Keras weights (layer_names, model_weights or groups with vars), the root holds: {}", where,
       roots.empty() ? "nothing" : roots);
}

WeightFile read_keras_archive(const ZipArchive& archive) {
  WeightFile result;
  result.format = "keras-archive";
  result.model_config = archive.text("config.json", kLongestConfig);
  if (archive.find("metadata.json")) {
    const auto metadata =
        nlohmann::json::parse(archive.text("metadata.json", kLongestConfig), nullptr, /*allow_exceptions=*/false);
    if (metadata.is_object() && metadata.contains("keras_version") && metadata["keras_version"].is_string())
      result.keras_version = metadata["keras_version"];
  }
  const auto weights = archive.find(kWeightsMember);
  check(weights.has_value(), "[keras] {}: expected a member '{}'{}", archive.file(), kWeightsMember,
        archive.find("model.weights.npz") ? ", got model.weights.npz: save it again where h5py is installed" : "");
  const KerasArchitecture architecture("[keras] " + archive.file(), result.model_config);
  const Hdf5File file(archive.file() + ":" + kWeightsMember, archive.read(*weights));
  result.layers = read_keras_v3(file, file.objects(), architecture);
  return result;
}

}  // namespace graft::io
