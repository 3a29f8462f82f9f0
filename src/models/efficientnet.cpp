#include "models/support.h"

namespace graft::models {
namespace {

struct Stage {
  Index kernel, repeats, filters, expand, stride;
};

// An inverted residual: 1x1 expand, depthwise, 1x1 project, and a shortcut where the shape stays.
Node inverted_residual(nn::Builder& b, const std::string& name, Node x, const Stage& stage, Index stride) {
  const Node input = x;
  const Index in = b.shape(x)[3];
  if (stage.expand != 1) {
    x = b.add(name + "_expand_conv",
              nn::Conv2d({.out = in * stage.expand, .kernel = 1, .bias = false, .initializer = nn::kHeNormal}), x);
    x = b.add(name + "_expand_bn", nn::BatchNorm(), x);
    x = b.add(name + "_expand_activation", nn::Activate(Activation::relu6), x);
  }
  x = b.add(
      name + "_dwconv",
      nn::DepthwiseConv2d(
          {.kernel = stage.kernel, .stride = stride, .padding = kSame, .bias = false, .initializer = nn::kHeNormal}),
      x);
  x = b.add(name + "_bn", nn::BatchNorm(), x);
  x = b.add(name + "_activation", nn::Activate(Activation::relu6), x);
  x = b.add(name + "_project_conv",
            nn::Conv2d({.out = stage.filters, .kernel = 1, .bias = false, .initializer = nn::kHeNormal}), x);
  x = b.add(name + "_project_bn", nn::BatchNorm(), x);
  if (stride == 1 && in == stage.filters) x = b.add(name + "_add", nn::Add(), std::vector<Node>{x, input});
  return x;
}

}  // namespace

nn::Network efficientnet_lite0(const Options& o) {
  nn::Builder b = start("efficientnet_lite0", o, 224, 32);
  Node x = b.add(
      "stem_conv",
      nn::Conv2d({.out = 32, .kernel = 3, .stride = 2, .padding = kSame, .bias = false, .initializer = nn::kHeNormal}),
      b.input());
  x = b.add("stem_bn", nn::BatchNorm(), x);
  x = b.add("stem_activation", nn::Activate(Activation::relu6), x);

  constexpr Stage kStages[] = {{3, 1, 16, 1, 1},  {3, 2, 24, 6, 2},  {5, 2, 40, 6, 2}, {3, 3, 80, 6, 2},
                               {5, 3, 112, 6, 1}, {5, 4, 192, 6, 2}, {3, 1, 320, 6, 1}};
  int number = 1;
  for (const Stage& stage : kStages) {
    for (Index repeat = 0; repeat < stage.repeats; ++repeat) {
      const std::string name = fmt::format("block{}{}", number, static_cast<char>('a' + repeat));
      x = inverted_residual(b, name, x, stage, repeat == 0 ? stage.stride : 1);
    }
    ++number;
  }
  x = b.add("top_conv", nn::Conv2d({.out = 1280, .kernel = 1, .bias = false, .initializer = nn::kHeNormal}), x);
  x = b.add("top_bn", nn::BatchNorm(), x);
  x = b.add("top_activation", nn::Activate(Activation::relu6), x);
  if (o.include_top) {
    x = b.add("avg_pool", nn::GlobalAveragePool(), x);
    b.features(x);
    x = b.add("top_dropout", nn::Dropout({.rate = 0.2}), x);
    x = b.add("predictions", nn::Linear({.out = o.classes, .softmax = true}), x);
  } else {
    x = finish_without_top(b, o, x, "avg_pool", "max_pool");
  }
  Preprocessing preprocessing{.resampling = Resampling::bicubic, .mean = {127, 127, 127}, .divisor = {128, 128, 128}};
  return with_preprocessing(b.build(x), preprocessing);
}

}  // namespace graft::models
