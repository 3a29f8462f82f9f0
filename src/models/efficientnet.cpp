#include "models/support.h"

namespace graft::models {
namespace {

struct Stage {
  Index kernel, repeats, filters, expand, stride;
};

// What TensorFlow and PyTorch do differently, with which weights are trained.
struct Ways {
  bool same_padding;  // as many zeros as TensorFlow's `same`; else the same on all sides
  double epsilon;

  Padding around(Index kernel) const { return same_padding ? kSame : pad((kernel - 1) / 2); }
  nn::BatchNorm norm() const { return nn::BatchNorm({.epsilon = epsilon}); }
};

// An inverted residual: 1x1 expand, depthwise, 1x1 project, and a shortcut where the shape stays.
Node inverted_residual(nn::Builder& b, const Ways& ways, const std::string& name, Node x, const Stage& stage,
                       Index stride) {
  const Node input = x;
  const Index in = b.shape(x)[3];
  if (stage.expand != 1) {
    x = b.add(name + "_expand_conv",
              nn::Conv2d({.out = in * stage.expand, .kernel = 1, .bias = false, .initializer = nn::kHeNormal}), x);
    x = b.add(name + "_expand_bn", ways.norm(), x);
    x = b.add(name + "_expand_activation", nn::Activate(Activation::relu6), x);
  }
  x = b.add(name + "_dwconv",
            nn::DepthwiseConv2d({.kernel = stage.kernel,
                                 .stride = stride,
                                 .padding = ways.around(stage.kernel),
                                 .bias = false,
                                 .initializer = nn::kHeNormal}),
            x);
  x = b.add(name + "_bn", ways.norm(), x);
  x = b.add(name + "_activation", nn::Activate(Activation::relu6), x);
  x = b.add(name + "_project_conv",
            nn::Conv2d({.out = stage.filters, .kernel = 1, .bias = false, .initializer = nn::kHeNormal}), x);
  x = b.add(name + "_project_bn", ways.norm(), x);
  if (stride == 1 && in == stage.filters) x = b.add(name + "_add", nn::Add(), std::vector<Node>{x, input});
  return x;
}

nn::Network make(const std::string& model, const Ways& ways, const Options& o, const Preprocessing& preprocessing) {
  nn::Builder b = start(model, o, 224, 32);
  Node x = b.add("stem_conv",
                 nn::Conv2d({.out = 32,
                             .kernel = 3,
                             .stride = 2,
                             .padding = ways.around(3),
                             .bias = false,
                             .initializer = nn::kHeNormal}),
                 b.input());
  x = b.add("stem_bn", ways.norm(), x);
  x = b.add("stem_activation", nn::Activate(Activation::relu6), x);

  constexpr Stage kStages[] = {{3, 1, 16, 1, 1},  {3, 2, 24, 6, 2},  {5, 2, 40, 6, 2}, {3, 3, 80, 6, 2},
                               {5, 3, 112, 6, 1}, {5, 4, 192, 6, 2}, {3, 1, 320, 6, 1}};
  int number = 1;
  for (const Stage& stage : kStages) {
    for (Index repeat = 0; repeat < stage.repeats; ++repeat) {
      const std::string name = fmt::format("block{}{}", number, static_cast<char>('a' + repeat));
      x = inverted_residual(b, ways, name, x, stage, repeat == 0 ? stage.stride : 1);
    }
    ++number;
  }
  x = b.add("top_conv", nn::Conv2d({.out = 1280, .kernel = 1, .bias = false, .initializer = nn::kHeNormal}), x);
  x = b.add("top_bn", ways.norm(), x);
  x = b.add("top_activation", nn::Activate(Activation::relu6), x);
  if (o.include_top) {
    x = b.add("avg_pool", nn::GlobalAveragePool(), x);
    b.features(x);
    x = b.add("top_dropout", nn::Dropout({.rate = 0.2}), x);
    x = b.add("predictions", nn::Linear({.out = o.classes, .softmax = true}), x);
  } else {
    x = finish_without_top(b, o, x, "avg_pool", "max_pool");
  }
  return with_preprocessing(b.build(x), preprocessing);
}

}  // namespace

nn::Network efficientnet_lite0(const Options& o) {
  return make("efficientnet_lite0", {.same_padding = true, .epsilon = 1e-3}, o,
              {.resampling = Resampling::bicubic, .mean = {127, 127, 127}, .divisor = {128, 128, 128}});
}

nn::Network timm_efficientnet_lite0(const Options& o) {
  Preprocessing preprocessing = torch_preprocessing(224);
  preprocessing.resampling = Resampling::bicubic;
  return make("timm_efficientnet_lite0", {.same_padding = false, .epsilon = 1e-5}, o, preprocessing);
}

}  // namespace graft::models
