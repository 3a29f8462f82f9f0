#include <set>

#include <nlohmann/json.hpp>

#include "graft/nn/network.h"

#include "core/format.h"
#include "nn/preprocessing_json.h"

namespace graft::nn {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;

class Writer final : public Fields {
 public:
  Json json = Json::object();

  using Fields::operator();
  void operator()(std::string_view name, bool& value) override { json[std::string(name)] = value; }
  void operator()(std::string_view name, Index& value) override { json[std::string(name)] = value; }
  void operator()(std::string_view name, double& value) override { json[std::string(name)] = value; }
  void operator()(std::string_view name, std::string& value) override { json[std::string(name)] = value; }
  void operator()(std::string_view name, std::vector<Index>& value) override { json[std::string(name)] = value; }
};

// Reads what is there and leaves the rest at its default; an option that the layer does not have is an error.
class Reader final : public Fields {
 public:
  explicit Reader(const Json& json) : json_(json) {}

  using Fields::operator();
  void operator()(std::string_view name, bool& value) override { read(name, value); }
  void operator()(std::string_view name, Index& value) override { read(name, value); }
  void operator()(std::string_view name, double& value) override { read(name, value); }
  void operator()(std::string_view name, std::string& value) override { read(name, value); }
  void operator()(std::string_view name, std::vector<Index>& value) override { read(name, value); }

  void finish(std::string_view layer) const {
    for (const auto& [name, unused] : json_.items())
      check(read_.contains(name), "[network] layer '{}' has no option '{}'", layer, name);
  }

 private:
  template <class T>
  void read(std::string_view name, T& value) {
    read_.emplace(name);
    if (const auto found = json_.find(std::string(name)); found != json_.end()) value = found->template get<T>();
  }

  const Json& json_;
  std::set<std::string> read_;
};

Preprocessing read_preprocessing(const Json& json) {
  Preprocessing p;
  p.height = json.at("height");
  p.width = json.at("width");
  p.resampling = resampling_from_name(json.at("resampling").get<std::string>());
  p.fit = fit_from_name(json.at("fit").get<std::string>());
  p.bgr = json.at("bgr");
  p.mean = json.at("mean");
  p.divisor = json.at("divisor");
  p.background = json.at("background");
  return p;
}

}  // namespace

std::string Network::to_json() const {
  Json layers = Json::array();
  for (const LayerEntry& entry : layers_) {
    Writer writer;
    const_cast<Layer&>(*entry.layer)
        .fields(writer);  // a writer changes nothing; one function lists the options for both directions
    Json row{{"name", entry.name}, {"type", entry.layer->type()}};
    if (!writer.json.empty()) row["options"] = writer.json;
    if (!entry.trainable) row["trainable"] = false;
    if (entry.statistics == Statistics::moving) row["statistics"] = "moving";
    layers.push_back(std::move(row));
  }
  Json nodes = Json::array();
  for (std::size_t i = 1; i < nodes_.size(); ++i) nodes.push_back({nodes_[i].layer, nodes_[i].inputs});
  const std::vector<Index> input(input_shape_.begin(), input_shape_.end());
  const Json graph{{"version", kVersion},
                   {"name", name},
                   {"input", {{"name", nodes_.at(0).name}, {"shape", input}}},
                   {"features", features},
                   {"layers", layers},
                   {"nodes", nodes},
                   {"preprocessing", preprocessing_json<Json>(preprocessing)},
                   {"classes", classes}};
  try {
    return graph.dump();
  } catch (const nlohmann::json::exception& error) {
    fail("[network] '{}': expected names of layers and classes in UTF-8, got others: {}", name, error.what());
  }
}

Network Network::from_json(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    const int version = json.at("version");
    check(version == kVersion, "[network] the graph has version {}, this graft reads version {}", version, kVersion);
    Network network;
    network.name = json.at("name");
    network.features = json.at("features");
    network.classes = json.at("classes").get<std::vector<std::string>>();
    network.preprocessing = read_preprocessing(json.at("preprocessing"));
    const auto input = json.at("input").at("shape").get<std::vector<Index>>();
    network.input_shape_ = Shape{std::span<const Index>(input)};
    network.nodes_.push_back({json.at("input").at("name"), -1, {}});
    for (const Json& row : json.at("layers")) {
      const std::string layer_name = row.at("name");
      std::unique_ptr<Layer> layer = make_layer(row.at("type").get<std::string>());
      if (const auto options = row.find("options"); options != row.end()) {
        Reader reader(*options);
        layer->fields(reader);
        reader.finish(layer_name);
      }
      LayerEntry& entry = network.layers_[static_cast<std::size_t>(network.add_layer(layer_name, std::move(layer)))];
      entry.trainable = row.value("trainable", true);
      entry.statistics = row.value("statistics", "batch") == "moving" ? Statistics::moving : Statistics::batch;
    }
    for (const Json& row : json.at("nodes")) {
      const int layer = row.at(0);
      auto inputs = row.at(1).get<std::vector<int>>();
      const auto count = static_cast<int>(network.nodes_.size());
      check(layer >= 0 && static_cast<std::size_t>(layer) < network.layers_.size(),
            "[network] node {} applies layer {} of {}", count, layer, network.layers_.size());
      for (const int from : inputs)
        check(from >= 0 && from < count, "[network] node {} reads node {}, which does not come before it", count, from);
      network.add_node(layer, std::move(inputs));
    }
    network.declare();
    if (!network.features.empty()) static_cast<void>(network.node_index(network.features));
    return network;
  } catch (const nlohmann::json::exception& error) {
    fail("[network] the graph cannot be read: {}", error.what());
  }
}

}  // namespace graft::nn
