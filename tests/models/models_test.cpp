#include "graft/models/models.h"

#include <gtest/gtest.h>

#include "core/format.h"
#include "support/expect.h"

namespace graft {
namespace {

struct Counts {
  std::string model;
  models::Options options;
  int weighted = 0;  ///< layers with weights
  int tensors = 0;
  Index parameters = 0;
  Index trainable = 0;
};

// As Keras 3.15 and timm 1.0 count them (timm's running statistics included), for 1000 classes.
const std::vector<Counts> kCounts{
    {"vgg16", {}, 16, 32, 138'357'544, 138'357'544},
    {"vgg16", {.include_top = false}, 13, 26, 14'714'688, 14'714'688},
    {"vgg19", {}, 19, 38, 143'667'240, 143'667'240},
    {"resnet50", {}, 107, 320, 25'636'712, 25'583'592},
    {"resnet50", {.include_top = false}, 106, 318, 23'587'712, 23'534'592},
    {"resnet101", {}, 209, 626, 44'707'176, 44'601'832},
    {"resnet152", {}, 311, 932, 60'419'944, 60'268'520},
    {"mobilenet", {}, 55, 137, 4'253'864, 4'231'976},
    {"mobilenet", {.include_top = false}, 54, 135, 3'228'864, 3'206'976},
    {"mobilenet", {.alpha = 0.5}, 55, 137, 1'342'536, 1'331'592},
    {"inception_v3", {}, 189, 378, 23'851'784, 23'817'352},
    {"inception_v3", {.include_top = false}, 188, 376, 21'802'784, 21'768'352},
    {"efficientnet_lite0", {}, 99, 247, 4'694'024, 4'652'008},
    {"timm_efficientnet_lite0", {}, 99, 247, 4'694'024, 4'652'008},
    {"vit_tiny", {}, 77, 152, 5'717'416, 5'717'416},
    {"vit_small", {}, 77, 152, 22'050'664, 22'050'664},
    {"vit_base", {}, 77, 152, 86'567'656, 86'567'656},
};

TEST(Models, HaveTheLayersAndParametersOfTheOriginals) {
  for (const Counts& expected : kCounts) {
    SCOPED_TRACE(fmt::format("{}{}, width {}", expected.model, expected.options.include_top ? "" : " without top",
                             expected.options.alpha));
    const nn::Network network = models::make(expected.model, expected.options);
    int weighted = 0, tensors = 0;
    Index trainable = 0;
    for (const nn::LayerEntry& layer : network.layers()) {
      weighted += !layer.parameters.empty();
      tensors += static_cast<int>(layer.parameters.size());
    }
    for (const auto& [name, parameter] : network.parameter_table()) {
      if (!parameter->is_statistic) trainable += parameter->shape.elements();
    }
    EXPECT_EQ(weighted, expected.weighted);
    EXPECT_EQ(tensors, expected.tensors);
    EXPECT_EQ(network.parameter_count(), expected.parameters);
    EXPECT_EQ(trainable, expected.trainable);
  }
}

// Tables of layers as Keras shows them: its input is a layer, graft's is not.
TEST(Models, HaveAsManyLayersAsKeras) {
  const std::vector<std::pair<std::string, std::size_t>> expected{
      {"vgg16", 23}, {"resnet50", 177}, {"mobilenet", 91}, {"inception_v3", 313}};
  for (const auto& [model, layers] : expected) EXPECT_EQ(models::make(model).layers().size() + 1, layers) << model;
}

TEST(Models, FeaturesHaveTheShapesOfTheOriginals) {
  struct Case {
    std::string model;
    Shape shape;
  };
  const std::vector<Case> cases{{"vgg16", {1, 7, 7, 512}},         {"vgg19", {1, 7, 7, 512}},
                                {"resnet50", {1, 7, 7, 2048}},     {"resnet101", {1, 7, 7, 2048}},
                                {"resnet152", {1, 7, 7, 2048}},    {"mobilenet", {1, 7, 7, 1024}},
                                {"inception_v3", {1, 8, 8, 2048}}, {"efficientnet_lite0", {1, 7, 7, 1280}}};
  for (const auto& [model, shape] : cases) {
    const nn::Network network = models::make(model, {.include_top = false});
    const nn::Program program =
        network.lower({1, network.input_shape()[0], network.input_shape()[1], network.input_shape()[2]});
    EXPECT_EQ(program[program.output].spec.shape, shape) << model;
    for (const auto pooling : {models::Pooling::average, models::Pooling::max}) {
      const nn::Network pooled =
          models::make(model, {.include_top = false, .pooling = pooling, .height = 96, .width = 107});
      const nn::Program small = pooled.lower({2, 96, 107, 3});
      EXPECT_EQ(small[small.output].spec.shape, (Shape{2, shape[3]})) << model;
    }
  }
}

TEST(Models, RefuseWhatCannotBe) {
  EXPECT_ERROR(models::make("vgg17"), "vgg16");
  EXPECT_ERROR(models::make("vgg16", {.alpha = 0.5}), "width multiplier");
  EXPECT_ERROR(models::make("mobilenet", {.alpha = 0.01}), "without channels");
  EXPECT_ERROR(models::make("inception_v3", {.height = 74}), "75x75");
  EXPECT_ERROR(models::make("resnet50", {.classes = 0}), "at least one class");
}

}  // namespace
}  // namespace graft
