#include "graft/io/network_file.h"
#include "graft/io/safetensors.h"
#include "graft/io/weight_file.h"

#include "common.h"
#include "nn/preprocessing_json.h"

namespace graft::tools {
namespace {

Json extents(const Shape& shape) { return std::vector<Index>(shape.begin(), shape.end()); }

Json describe(const nn::Network& network) {
  return {{"name", network.name},
          {"input", extents(network.input_shape())},
          {"layers", network.layers().size()},
          {"features", network.features},
          {"classes", network.classes},
          {"preprocessing", nn::preprocessing_json<Json>(network.preprocessing)}};
}

Json describe(const std::filesystem::path& path) {
  const io::WeightFile file = io::read_weights(path);
  Json info{{"file", path.string()}, {"format", file.format}};
  if (!file.keras_version.empty()) info["keras_version"] = file.keras_version;
  if (file.format == "safetensors" || file.format == "graft") {
    Json metadata = Json::object();
    for (const auto& [key, value] : io::read_safetensors_header(path).metadata) {
      if (key == io::kNetworkKey)
        info["network"] = describe(nn::Network::from_json(value));
      else
        metadata[key] = value;
    }
    info["metadata"] = metadata;
  }
  info["has_architecture"] = !file.model_config.empty() || info.contains("network");
  Index elements = 0, tensors = 0;
  Json layers = Json::array();
  for (const io::WeightLayer& layer : file.layers) {
    Json entry{{"name", layer.name}, {"type", layer.type}, {"tensors", Json::array()}};
    for (const io::WeightTensor& tensor : layer.tensors) {
      elements += tensor.value.elements();
      ++tensors;
      entry["tensors"].push_back({{"name", tensor.name},
                                  {"shape", extents(tensor.value.shape())},
                                  {"dtype", name(tensor.value.dtype())},
                                  {"source", tensor.source}});
    }
    layers.push_back(std::move(entry));
  }
  info["tensors"] = tensors;
  info["elements"] = elements;
  info["layers"] = std::move(layers);
  return info;
}

void show(const Json& info) {
  say("{}: {}{}, {} layers with {} tensors, {} numbers\n", info["file"].get<std::string>(),
      info["format"].get<std::string>(),
      info.contains("keras_version") ? " (Keras " + info["keras_version"].get<std::string>() + ")" : "",
      info["layers"].size(), info["tensors"].get<Index>(), grouped(info["elements"].get<Index>()));
  if (info.contains("network")) {
    const Json& network = info["network"];
    say("network {}, input {}, features '{}'\n", network["name"].get<std::string>(), network["input"].dump(),
        network["features"].get<std::string>());
    say("images {}\n", in_words(network["preprocessing"]));
    if (!network["classes"].empty())
      say("{} classes: {}, ...\n", network["classes"].size(), network["classes"][0].get<std::string>());
  } else {
    say("the file {} the network's architecture\n", info["has_architecture"].get<bool>() ? "holds" : "does not hold");
  }
  if (info.contains("metadata")) {
    for (const auto& [key, value] : info["metadata"].items()) say("{}: {}\n", key, value.get<std::string>());
  }
  std::size_t width = 0;
  for (const Json& layer : info["layers"]) width = std::max(width, layer["name"].get_ref<const std::string&>().size());
  for (const Json& layer : info["layers"]) {
    std::vector<std::string> tensors;
    for (const Json& tensor : layer["tensors"]) {
      tensors.push_back(fmt::format("{} {} {}", tensor["name"].get<std::string>(), tensor["dtype"].get<std::string>(),
                                    tensor["shape"].dump()));
    }
    say("  {:<{}}  {}\n", layer["name"].get<std::string>(), width, fmt::join(tensors, "; "));
  }
}

}  // namespace

void add_info(CLI::App& app) {
  struct Options {
    std::filesystem::path file;
    bool json = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = add_command(app, "info", "Show what a weight file holds, without importing it",
                            "graft info mobilenet_1_0_224_tf.h5");
  c->add_option("file", o->file, "A Keras, PyTorch or safetensors file")->required()->type_name("FILE");
  c->add_flag("--json", o->json, "As JSON");
  c->callback([o] {
    const Json info = describe(o->file);
    if (o->json)
      print_json(info);
    else
      show(info);
  });
}

}  // namespace graft::tools
