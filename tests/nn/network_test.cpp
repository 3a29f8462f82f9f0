#include "graft/nn/network.h"

#include <sstream>

#include <gtest/gtest.h>

#include "graft/autograd/backward.h"

#include "nn/networks.h"
#include "support/expect.h"

namespace graft::nn {
namespace {

using test::same_bits;
using test::small_images;
using test::small_network;

std::vector<std::string> trainable(Network& network) {
  std::vector<std::string> names;
  for (const Parameter* parameter : network.trainable_parameters()) names.push_back(parameter->name);
  return names;
}

TEST(Network, SameSeedSameValuesWhateverTheOrder) {
  Network a = small_network(), b = small_network(5), c = small_network();
  c.seed = 1;
  EXPECT_TRUE(same_bits(a.parameters()[0]->value, b.parameters()[0]->value));  // another head changes nothing before it
  EXPECT_FALSE(same_bits(a.parameters()[0]->value, c.parameters()[0]->value));
}

TEST(Network, FreezingTurnsOffGradientsAndBatchStatistics) {
  Network network = small_network();
  EXPECT_EQ(network.layer("conv1_bn").statistics, Statistics::batch);
  network.freeze();
  EXPECT_TRUE(trainable(network).empty());
  EXPECT_EQ(network.layer("conv1_bn").statistics, Statistics::moving);
  network.unfreeze("conv1*");
  EXPECT_EQ(trainable(network), (std::vector<std::string>{"conv1/weight", "conv1_bn/gamma", "conv1_bn/beta"}));
  EXPECT_EQ(network.layer("conv1_bn").statistics, Statistics::moving);  // gradients come back, batch statistics do not
  network.use_statistics(Statistics::batch, "*_bn");
  EXPECT_EQ(network.layer("conv1_bn").statistics, Statistics::batch);
  network.train_last(2);
  EXPECT_EQ(trainable(network),
            (std::vector<std::string>{"conv2/weight", "conv2/bias", "predictions/weight", "predictions/bias"}));
  EXPECT_ERROR(network.freeze("conv9*"), "no layer of 'small' matches 'conv9*'; close to it: 'conv1'");
  EXPECT_ERROR(network.train_last(9), "has 4 layers with weights");
}

TEST(Network, FrozenParametersGetNoGradientAndKeepTheirBits) {
  Network network = small_network();
  network.freeze("conv1*");
  std::map<std::string, Tensor> before;
  for (const Parameter* parameter : network.parameters()) before[parameter->name] = parameter->value.clone();
  const RunResult result = network.run(small_images(4), {.training = true});
  autograd::backward(result.logits, {.seed = Tensor::full(result.logits.shape(), 1)});
  for (const Parameter* parameter : network.parameters()) {
    const bool frozen = parameter->layer.starts_with("conv1");
    EXPECT_EQ(parameter->value.grad().defined(), !frozen) << parameter->name;
    EXPECT_TRUE(same_bits(parameter->value, before[parameter->name])) << parameter->name;
  }
}

TEST(Network, CutSharesParameters) {
  Network network = small_network();
  Network part = network.cut("conv1_relu");
  EXPECT_EQ(part.nodes().size(), 4u);
  EXPECT_EQ(part.parameter_table().size(), 5u);
  EXPECT_TRUE(
      same_bits(part(small_images()), network.run(small_images(), {.watch = {"conv1_relu"}}).watched["conv1_relu"]));
  part.parameters()[0]->value.fill(0);
  EXPECT_EQ(network.parameters()[0]->value.data<float>()[0], 0);
  EXPECT_ERROR(network.cut("conv3"), "'small' has no layer 'conv3'; close to it: 'conv1', 'conv2'");
}

TEST(Network, GraftReplacesTheHead) {
  Network network = small_network();
  network.freeze();
  const Tensor features = network.run(small_images(), {.watch = {"pool"}}).watched["pool"];
  network.graft({.classes = 2, .hidden = {6, 5}, .dropout = 0.3, .class_names = {"cat", "dog"}});
  EXPECT_FALSE(network.has_layer("predictions"));
  EXPECT_EQ(network.classes, (std::vector<std::string>{"cat", "dog"}));
  EXPECT_EQ(trainable(network),
            (std::vector<std::string>{"head_hidden_1/weight", "head_hidden_1/bias", "head_hidden_2/weight",
                                      "head_hidden_2/bias", "head/weight", "head/bias"}));
  const RunResult result = network.run(small_images(), {.watch = {"pool"}});
  EXPECT_TRUE(same_bits(result.watched.at("pool"), features));
  EXPECT_EQ(result.output.shape(), Shape({2, 2}));
  EXPECT_NEAR(result.output.data<float>()[0] + result.output.data<float>()[1], 1, 1e-6);
  network.graft({.classes = 4});  // again, on the same features
  EXPECT_EQ(trainable(network), (std::vector<std::string>{"head/weight", "head/bias"}));
  network.graft({.classes = 4, .cut = "conv1_relu"});
  EXPECT_TRUE(network.has_layer("head_pool"));
  EXPECT_ERROR(network.graft({.classes = 0}), "at least one class");
  EXPECT_ERROR(network.graft({.classes = 3, .class_names = {"one"}}), "1 class names for 3 classes");
}

TEST(Network, SharedLayersShareParameters) {
  Builder b({.height = 4, .width = 4, .channels = 4});
  auto x = b.add("conv", Conv2d({.out = 4, .kernel = 3, .padding = kSame}), b.input());
  x = b.again("conv", x);
  Network network = b.build(x);
  EXPECT_EQ(network.parameters().size(), 2u);
  EXPECT_EQ(network.output().name, "conv:1");
  Network again = Network::from_json(network.to_json());
  for (const Parameter* parameter : network.parameters()) again.parameter(parameter->name).value = parameter->value;
  const Tensor image = test::random_normal({1, 4, 4, 4}, 2).to(DType::f32);
  EXPECT_TRUE(same_bits(network(image), again(image)));
}

TEST(Network, JsonKeepsSwitchesPreprocessingAndClasses) {
  Network network = small_network();
  network.freeze("conv1*");
  network.preprocessing = caffe_preprocessing(8);
  network.classes = {"a", "b", "c"};
  const Network again = Network::from_json(network.to_json());
  EXPECT_EQ(again.to_json(), network.to_json());
  EXPECT_EQ(again.preprocessing, network.preprocessing);
  EXPECT_FALSE(again.layer("conv1").trainable);
  EXPECT_EQ(again.layer("conv1_bn").statistics, Statistics::moving);
  EXPECT_EQ(again.features, "pool");
}

TEST(Network, JsonTakesNamesInUtf8Alone) {
  Network network = small_network();
  network.classes = {"a", "caf\xe9", "c"};
  EXPECT_ERROR(network.to_json(), "expected names of layers and classes in UTF-8, got others");
}

TEST(Network, DamagedJsonIsNamed) {
  std::string json = small_network().to_json();
  EXPECT_ERROR(Network::from_json("{"), "the graph cannot be read");
  EXPECT_ERROR(Network::from_json("{\"version\":9}"), "version 9");
  const auto replaced = [&](std::string_view from, std::string_view to) {
    std::string copy = json;
    return copy.replace(copy.find(from), from.size(), to);
  };
  EXPECT_ERROR(Network::from_json(replaced("\"nodes\":[[0,[0]]", "\"nodes\":[[0,[7]]")),
               "reads node 7, which does not come before it");
  EXPECT_ERROR(Network::from_json(replaced("\"nodes\":[[0,[0]]", "\"nodes\":[[99,[0]]")), "applies layer 99");
  EXPECT_ERROR(Network::from_json(replaced("\"features\":\"pool\"", "\"features\":\"nothing\"")), "no layer 'nothing'");
}

TEST(Network, BuilderNamesTheLayerThatDoesNotFit) {
  Builder b({.height = 8, .width = 8});
  const auto x = b.add("conv", Conv2d({.out = 4, .kernel = 3}), b.input());
  EXPECT_ERROR(b.add("conv", Conv2d({.out = 4}), x), "two layers are called 'conv'");
  EXPECT_ERROR(b.add("big", Conv2d({.out = 4, .kernel = 9}), x),
               "layer 'big': [conv2d] the window reaches over 9 pixels");
  EXPECT_ERROR(b.add("sum", Add(), std::vector{x, b.input()}), "layer 'sum': [add] expected two inputs of one shape");
  EXPECT_ERROR(b.add("a/b", Flatten(), x), "must not be empty or hold a slash");
}

TEST(Network, SummaryIsTheTableThatKerasUsersKnow) {
  Network network = small_network();
  network.freeze("conv1");
  std::ostringstream out;
  network.summary(out);
  const std::string text = out.str();
  EXPECT_THAT(text, testing::HasSubstr("conv1 (conv2d)"));
  EXPECT_THAT(text, testing::HasSubstr("[1, 8, 8, 4]"));
  EXPECT_THAT(text, testing::HasSubstr("frozen"));
  EXPECT_THAT(text, testing::HasSubstr("parameters: 287 (171 trainable, 116 not)"));  // 108 + 16 + 148 + 15
}

}  // namespace
}  // namespace graft::nn
