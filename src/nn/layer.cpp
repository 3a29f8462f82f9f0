#include "graft/nn/layer.h"

#include <map>
#include <mutex>

#include "graft/nn/layers.h"

#include "core/format.h"
#include "nn/names.h"

namespace graft::nn {
namespace {

template <class L>
std::pair<const std::string, LayerFactory> row() {
  return {std::string(L().type()), [] { return std::make_unique<L>(); }};
}

struct Registry {
  std::mutex mutex;
  std::map<std::string, LayerFactory> factories{
      row<Conv2d>(),
      row<DepthwiseConv2d>(),
      row<Linear>(),
      row<BatchNorm>(),
      row<LayerNorm>(),
      row<Activate>(),
      row<Softmax>(),
      row<ZeroPad>(),
      row<MaxPool>(),
      row<AveragePool>(),
      row<GlobalAveragePool>(),
      row<GlobalMaxPool>(),
      row<Dropout>(),
      row<Flatten>(),
      row<Reshape>(),
      row<Add>(),
      row<Concat>(),
      row<ClassToken>(),
      row<SelfAttention>(),
      row<TakeToken>(),
      row<PositionEmbedding>(),
  };
};

Registry& registry() {
  static Registry instance;
  return instance;
}

}  // namespace

// Composite options are saved as lists of numbers or as names.
void Fields::operator()(std::string_view name, Extent& value) {
  std::vector<Index> both{value.height, value.width};
  (*this)(name, both);
  check(both.size() == 2, "option '{}' takes [height, width], got {} numbers", name, both.size());
  value = {both[0], both[1]};
}

void Fields::operator()(std::string_view name, Padding& value) {
  constexpr Index kSameMark = -1;
  std::vector<Index> sides{value.top, value.bottom, value.left, value.right};
  if (value.is_same) sides = {kSameMark};
  (*this)(name, sides);
  if (sides == std::vector<Index>{kSameMark}) {
    value = kSame;
    return;
  }
  check(sides.size() == 4, "option '{}' takes [top, bottom, left, right] or [-1] for 'same', got {} numbers", name,
        sides.size());
  value = {sides[0], sides[1], sides[2], sides[3]};
}

void Fields::operator()(std::string_view name, Activation& value) {
  std::string text(graft::name(value));
  (*this)(name, text);
  value = activation_from_name(text);
}

void Fields::operator()(std::string_view name, Initializer& value) {
  std::string text(nn::name(value.kind));
  (*this)(name, text);
  value.kind = initializer_from_name(text);
  (*this)(std::string(name) + "_scale", value.scale);
}

void register_layer(std::string_view type, LayerFactory factory) {
  Registry& known = registry();
  const std::lock_guard lock(known.mutex);
  known.factories[std::string(type)] = std::move(factory);
}

std::unique_ptr<Layer> make_layer(std::string_view type) {
  Registry& known = registry();
  const std::lock_guard lock(known.mutex);
  const auto found = known.factories.find(std::string(type));
  if (found == known.factories.end()) {
    std::vector<std::string> names;
    for (const auto& [name, unused] : known.factories) names.push_back(name);
    fail("[network] no layer type '{}' is registered{}", type, closest(type, names));
  }
  return found->second();
}

}  // namespace graft::nn
