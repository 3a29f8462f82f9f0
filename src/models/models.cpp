#include "graft/models/models.h"

#include <map>

#include "core/format.h"

namespace graft::models {
namespace {

using Function = nn::Network (*)(const Options&);

const std::map<std::string, Function, std::less<>>& table() {
  static const std::map<std::string, Function, std::less<>> functions{
      {"vgg16", vgg16},
      {"vgg19", vgg19},
      {"resnet50", resnet50},
      {"resnet101", resnet101},
      {"resnet152", resnet152},
      {"mobilenet", mobilenet},
      {"inception_v3", inception_v3},
      {"efficientnet_lite0", efficientnet_lite0},
      {"timm_efficientnet_lite0", timm_efficientnet_lite0},
      {"vit_tiny", vit_tiny},
      {"vit_small", vit_small},
      {"vit_base", vit_base}};
  return functions;
}

}  // namespace

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const auto& [name, unused] : table()) all.push_back(name);
  return all;
}

nn::Network make(std::string_view name, const Options& options) {
  const auto found = table().find(name);
  check(found != table().end(), "[model] expected one of {}, got '{}'", fmt::join(names(), ", "), name);
  check(options.alpha == 1.0 || name == "mobilenet", "[{}] a width multiplier is MobileNet's, got {}", name,
        options.alpha);
  return found->second(options);
}

}  // namespace graft::models
