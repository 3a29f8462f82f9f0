#include "models/support.h"

namespace graft::models {
namespace {

constexpr nn::BatchNorm::Options kNorm{.epsilon = 1.001e-5};

// 1x1 reduce, 3x3, 1x1 expand, and a shortcut around them; the first block of a stage projects the shortcut and carries
// the stage's stride.
Node bottleneck(nn::Builder& b, const std::string& name, Node x, Index filters, Index stride, bool project) {
  Node shortcut = x;
  if (project) {
    shortcut = b.add(name + "_0_conv", nn::Conv2d({.out = 4 * filters, .kernel = 1, .stride = stride}), x);
    shortcut = b.add(name + "_0_bn", nn::BatchNorm(kNorm), shortcut);
  }
  x = b.add(name + "_1_conv", nn::Conv2d({.out = filters, .kernel = 1, .stride = stride}), x);
  x = b.add(name + "_1_bn", nn::BatchNorm(kNorm), x);
  x = b.add(name + "_1_relu", nn::Activate(Activation::relu), x);
  x = b.add(name + "_2_conv", nn::Conv2d({.out = filters, .kernel = 3, .padding = kSame}), x);
  x = b.add(name + "_2_bn", nn::BatchNorm(kNorm), x);
  x = b.add(name + "_2_relu", nn::Activate(Activation::relu), x);
  x = b.add(name + "_3_conv", nn::Conv2d({.out = 4 * filters, .kernel = 1}), x);
  x = b.add(name + "_3_bn", nn::BatchNorm(kNorm), x);
  x = b.add(name + "_add", nn::Add(), std::vector<Node>{shortcut, x});
  return b.add(name + "_out", nn::Activate(Activation::relu), x);
}

nn::Network resnet(std::string_view name, const Options& o, const std::vector<int>& depths) {
  nn::Builder b = start(name, o, 224, 32);
  Node x = b.add("conv1_pad", nn::ZeroPad(pad(3)), b.input());
  x = b.add("conv1_conv", nn::Conv2d({.out = 64, .kernel = 7, .stride = 2}), x);
  x = b.add("conv1_bn", nn::BatchNorm(kNorm), x);
  x = b.add("conv1_relu", nn::Activate(Activation::relu), x);
  x = b.add("pool1_pad", nn::ZeroPad(pad(1)), x);
  x = b.add("pool1_pool", nn::MaxPool({.kernel = 3, .stride = 2}), x);
  for (std::size_t stage = 0; stage < depths.size(); ++stage) {
    for (int block = 0; block < depths[stage]; ++block) {
      const bool first = block == 0;
      x = bottleneck(b, fmt::format("conv{}_block{}", stage + 2, block + 1), x, Index{64} << stage,
                     first && stage > 0 ? 2 : 1, first);
    }
  }
  if (o.include_top) {
    x = b.add("avg_pool", nn::GlobalAveragePool(), x);
    b.features(x);
    x = b.add("predictions", nn::Linear({.out = o.classes, .softmax = true}), x);
  } else {
    x = finish_without_top(b, o, x, "avg_pool", "max_pool");
  }
  return with_preprocessing(b.build(x), caffe_preprocessing());
}

}  // namespace

nn::Network resnet50(const Options& options) { return resnet("resnet50", options, {3, 4, 6, 3}); }
nn::Network resnet101(const Options& options) { return resnet("resnet101", options, {3, 4, 23, 3}); }
nn::Network resnet152(const Options& options) { return resnet("resnet152", options, {3, 8, 36, 3}); }

}  // namespace graft::models
