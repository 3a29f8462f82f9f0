#include "graft/nn/layers.h"

#include <gtest/gtest.h>

#include "graft/nn/network.h"

#include "support/expect.h"

namespace graft::nn {
namespace {

struct Case {
  std::string what;
  Shape input;  // one image
  std::shared_ptr<Layer> layer;
  Shape output;  // for a batch of 2
  std::vector<std::pair<std::string, Shape>> parameters;
};

template <class L>
std::shared_ptr<Layer> make(L layer) {
  return std::make_shared<L>(std::move(layer));
}

TEST(Layers, InferShapesAndDeclareParameters) {
  const std::vector<Case> cases{
      {"conv",
       {9, 7, 3},
       make(Conv2d({.out = 8, .kernel = {3, 5}, .stride = 2})),
       {2, 4, 2, 8},
       {{"weight", {8, 3, 5, 3}}, {"bias", {8}}}},
      {"grouped conv",
       {8, 8, 6},
       make(Conv2d({.out = 4, .kernel = 1, .groups = 2, .bias = false})),
       {2, 8, 8, 4},
       {{"weight", {4, 1, 1, 3}}}},
      {"conv with gelu",
       {8, 8, 6},
       make(Conv2d({.out = 4, .kernel = 1, .activation = Activation::gelu})),
       {2, 8, 8, 4},
       {{"weight", {4, 1, 1, 6}}, {"bias", {4}}}},
      {"depthwise",
       {8, 8, 6},
       make(DepthwiseConv2d({.padding = kSame, .multiplier = 2, .bias = false})),
       {2, 8, 8, 12},
       {{"weight", {3, 3, 12}}}},
      {"linear", {4, 4, 5}, make(Linear({.out = 7})), {2, 4, 4, 7}, {{"weight", {7, 5}}, {"bias", {7}}}},
      {"batch norm without scale",
       {4, 4, 5},
       make(BatchNorm({.scale = false})),
       {2, 4, 4, 5},
       {{"beta", {5}}, {"moving_mean", {5}}, {"moving_variance", {5}}}},
      {"layer norm", {4, 4, 5}, make(LayerNorm()), {2, 4, 4, 5}, {{"gamma", {5}}, {"beta", {5}}}},
      {"zero pad", {4, 4, 5}, make(ZeroPad({.bottom = 1, .right = 2})), {2, 5, 6, 5}, {}},
      {"max pool", {5, 5, 2}, make(MaxPool({.kernel = 3, .stride = 2})), {2, 2, 2, 2}, {}},
      {"average pool", {5, 5, 2}, make(AveragePool({.kernel = 3, .padding = kSame})), {2, 5, 5, 2}, {}},
      {"global average, kept", {5, 5, 2}, make(GlobalAveragePool(true)), {2, 1, 1, 2}, {}},
      {"global max", {5, 5, 2}, make(GlobalMaxPool()), {2, 2}, {}},
      {"flatten", {5, 5, 2}, make(Flatten()), {2, 50}, {}},
      {"reshape", {4, 4, 6}, make(Reshape({-1, 6})), {2, 16, 6}, {}},
      {"dropout", {4, 4, 6}, make(Dropout()), {2, 4, 4, 6}, {}},
      {"softmax", {4, 4, 6}, make(Softmax()), {2, 4, 4, 6}, {}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    Builder b({.height = c.input[0], .width = c.input[1], .channels = c.input[2]});
    Network network = b.build(b.add("layer", c.layer, {b.input()}));
    const Program program = network.lower({2, c.input[0], c.input[1], c.input[2]});
    EXPECT_EQ(program[program.output].spec.shape, c.output);
    std::vector<std::pair<std::string, Shape>> parameters;
    for (const Parameter* parameter : network.parameters())
      parameters.emplace_back(parameter->name.substr(6), parameter->shape);
    EXPECT_EQ(parameters, c.parameters);
    const Tensor x = Tensor::full({2, c.input[0], c.input[1], c.input[2]}, 0.5);
    EXPECT_EQ(network(x).shape(), c.output);
    // Saved and read again, the layer is the same.
    Network again = Network::from_json(network.to_json());
    EXPECT_EQ(again.to_json(), network.to_json());
    EXPECT_EQ(again(x).shape(), c.output);
  }
}

TEST(Layers, OfASequence) {
  Builder b({.height = 4, .width = 4, .channels = 6});
  auto x = b.add("tokens", Reshape({-1, 6}), b.input());
  x = b.add("class", ClassToken(), x);
  x = b.add("position", PositionEmbedding(), x);
  EXPECT_EQ(b.shape(x), Shape({1, 17, 6}));
  x = b.add("qkv", Linear({.out = 18}), x);
  x = b.add("attention", SelfAttention({.heads = 2}), x);
  EXPECT_EQ(b.shape(x), Shape({1, 17, 6}));
  Network network = b.build(b.add("first", TakeToken(0), x));
  EXPECT_EQ(network(Tensor::full({3, 4, 4, 6}, 1)).shape(), Shape({3, 6}));
  EXPECT_EQ(network.parameter("class/weight").shape, Shape({1, 6}));
  EXPECT_EQ(network.parameter("position/weight").shape, Shape({17, 6}));
}

// The class token stands in front, the same for each sequence, and the sequence follows unchanged.
TEST(Layers, ClassTokenIsPutInFront) {
  Builder b({.height = 1, .width = 2, .channels = 2});
  const auto x = b.add("tokens", Reshape({-1, 2}), b.input());
  Network network = b.build(b.add("class", ClassToken(), x));
  network.parameters()[0]->value = Tensor::from<float>({1, 2}, {7, 8});
  const Tensor y = network(Tensor::from<float>({2, 1, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8}));
  const std::vector<float> want{7, 8, 1, 2, 3, 4, 7, 8, 5, 6, 7, 8};
  EXPECT_EQ(std::vector<float>(y.values<float>().begin(), y.values<float>().end()), want);
}

struct Halve final : Layer {
  std::string_view type() const override { return "test_halve"; }
  Value lower(Lowering& lowering, const std::vector<Value>& inputs) const override {
    return inputs[0] ? inputs[0] : lowering.statistic("x", {}, 0);
  }
};

TEST(Layers, UnknownTypesAndOptionsAreNamed) {
  EXPECT_ERROR(make_layer("conv3d"), "no layer type 'conv3d' is registered; close to it: 'conv2d'");
  register_layer<Halve>();
  EXPECT_EQ(make_layer("test_halve")->type(), "test_halve");
  Builder b;
  std::string json = b.build(b.add("c", Conv2d({.out = 2}), b.input())).to_json();
  json.replace(json.find("\"groups\""), 8, "\"troups\"");
  EXPECT_ERROR(Network::from_json(json), "layer 'c' has no option 'troups'");
}

}  // namespace
}  // namespace graft::nn
