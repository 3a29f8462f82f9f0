#include <fstream>
#include <regex>

#include <nlohmann/json.hpp>

#include "core/format.h"
#include "io/convert.h"

namespace graft::io {
namespace {

using Json = nlohmann::json;

Preprocessing read_preprocessing(const Json& json, int size) {
  if (json.is_string()) return preprocessing_by_name(json.get<std::string>(), size);
  Preprocessing p{.height = size, .width = size};
  for (const auto& [key, value] : json.items()) {
    if (key == "bgr")
      p.bgr = value;
    else if (key == "mean")
      p.mean = value;
    else if (key == "divisor")
      p.divisor = value;
    else if (key == "resampling")
      p.resampling = resampling_from_name(value.get<std::string>());
    else if (key == "fit")
      p.fit = fit_from_name(value.get<std::string>());
    else
      fail("preprocessing has no key '{}'; expected bgr, mean, divisor, resampling or fit", key);
  }
  return p;
}

std::string checked_pattern(const std::string& pattern) {
  try {
    const std::regex compiled(pattern);
  } catch (const std::regex_error& error) {
    fail("'{}' is not a regular expression: {}", pattern, error.what());
  }
  return pattern;
}

}  // namespace

Preprocessing preprocessing_by_name(std::string_view name, int size) {
  if (name == "caffe") return caffe_preprocessing(size);
  if (name == "tf") return tf_preprocessing(size);
  if (name == "torch") return torch_preprocessing(size);
  check(name == "none", "[preprocessing] expected caffe, tf, torch or none, got '{}'", name);
  return {.height = size, .width = size};
}

WeightMap read_weight_map(const std::filesystem::path& path) {
  try {
    std::ifstream stream(path);
    check(stream.good(), "the file cannot be opened");
    const Json json = Json::parse(stream);
    WeightMap map;
    constexpr int kUsualSize = 224;
    for (const auto& [key, value] : json.items()) {
      if (key == "description") continue;
      if (key == "model")
        map.model = value;
      else if (key == "include_top")
        map.include_top = value.get<bool>();
      else if (key == "preprocessing")
        map.preprocessing = read_preprocessing(value, kUsualSize);
      else if (key == "ignore") {
        for (const Json& pattern : value) map.ignore.push_back(checked_pattern(pattern));
      } else if (key == "layers") {
        for (const Json& rule : value) map.layers.push_back({checked_pattern(rule.at("from")), rule.at("to")});
      } else {
        fail("there is no key '{}'; expected description, model, include_top, layers, ignore or preprocessing", key);
      }
    }
    return map;
  } catch (const Json::exception& error) {
    fail("{}: not a map file: {}", path.string(), error.what());
  } catch (const Error& error) {
    fail("{}: {}", path.string(), error.what());
  }
}

}  // namespace graft::io
