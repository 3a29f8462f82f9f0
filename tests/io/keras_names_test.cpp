#include "io/keras.h"
#include "support/expect.h"

namespace graft::io {
namespace {

TEST(KerasVariable, NamesOfEveryEra) {
  struct Case {
    const char *name, *owner, *variable;
  };
  for (const Case& c : std::vector<Case>{
           {"block1_conv1_W_1:0", "block1_conv1", "kernel"},
           {"block1_conv1_b_1:0", "block1_conv1", "bias"},
           {"conv1_W:0", "conv1", "kernel"},
           {"bn_conv1_gamma_1:0", "bn_conv1", "gamma"},
           {"bn_conv1_running_mean_1:0", "bn_conv1", "moving_mean"},
           {"bn_conv1_running_std_1:0", "bn_conv1", "moving_variance"},
           {"res2a_branch2b_W_12:0", "res2a_branch2b", "kernel"},
           {"conv1/kernel:0", "conv1", "kernel"},
           {"conv1_1/kernel_1:0", "conv1_1", "kernel"},
           {"conv_dw_1/depthwise_kernel:0", "conv_dw_1", "kernel"},
           {"separable/pointwise_kernel:0", "separable", "pointwise_kernel"},
           {"bn/moving_variance:0", "bn", "moving_variance"},
           {"seq/dense/kernel", "seq/dense", "kernel"},
           {"gru/recurrent_kernel:0", "gru", "recurrent_kernel"},
           {"kernel", "", "kernel"},
           {"layer/weight_2:0", "layer", "weight_2"},
           {"", "", ""},
       }) {
    const KerasVariable variable = parse_keras_variable(c.name);
    EXPECT_EQ(variable.owner, c.owner) << c.name;
    EXPECT_EQ(variable.variable, c.variable) << c.name;
  }
}

TEST(KerasClass, InSnakeCaseAsKerasWritesGroups) {
  for (const auto& [name, snake] :
       std::vector<std::pair<const char*, const char*>>{{"Conv2D", "conv2d"},
                                                        {"DepthwiseConv2D", "depthwise_conv2d"},
                                                        {"BatchNormalization", "batch_normalization"},
                                                        {"Dense", "dense"},
                                                        {"GlobalAveragePooling2D", "global_average_pooling2d"},
                                                        {"ReLU", "re_lu"},
                                                        {"InputLayer", "input_layer"},
                                                        {"LSTM", "lstm"},
                                                        {"", ""}}) {
    EXPECT_EQ(snake_case(name), snake);
  }
}

TEST(KerasArchitecture, FindsLayersByNameAndByRank) {
  const KerasArchitecture architecture("test", R"({"class_name": "Sequential", "config": {"layers": [
    {"class_name": "Functional", "config": {"name": "base", "layers": [
      {"class_name": "Conv2D", "config": {"name": "c1"}}, {"class_name": "Conv2D", "config": {"name": "twice"}}]}},
    {"class_name": "BatchNormalization", "config": {"name": "bn", "scale": false}},
    {"class_name": "Conv2D", "config": {"name": "twice"}}]}})");
  EXPECT_TRUE(architecture.named("base")->is_model);
  EXPECT_EQ(architecture.named("base")->ranked("conv2d", 1)->name, "twice");
  EXPECT_EQ(architecture.root().ranked("conv2d", 0)->name, "twice");
  EXPECT_EQ(architecture.root().ranked("conv2d", 1), nullptr);
  EXPECT_FALSE(architecture.named("bn")->scale);
  EXPECT_EQ(architecture.named("twice"), nullptr);
  EXPECT_EQ(architecture.named("absent"), nullptr);
  // Keras 1 and 2 wrote the layers of a Sequential model as a bare list.
  EXPECT_EQ(KerasArchitecture(
                "test", R"({"class_name": "Sequential", "config": [{"class_name": "Dense", "config": {"name": "d"}}]})")
                .named("d")
                ->type,
            "dense");
}

TEST(KerasArchitecture, RefusesWhatIsNoModel) {
  EXPECT_ERROR(KerasArchitecture("[keras] a.h5", "{"), "[keras] a.h5: the model's configuration is not a JSON object");
  std::string deep;
  for (int i = 0; i < 40; ++i) deep += R"({"config": {"layers": [)";
  for (int i = 0; i < 40; ++i) deep += "]}}";
  EXPECT_ERROR(KerasArchitecture("[keras] a.h5", deep), "models nest deeper than 32");
  EXPECT_EQ(KerasArchitecture("test", R"({"config": {"layers": [1, null, {"config": 3}]}})").root().layers.size(), 3u);
}

}  // namespace
}  // namespace graft::io
