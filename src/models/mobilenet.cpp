#include "models/support.h"

namespace graft::models {

nn::Network mobilenet(const Options& o) {
  check(o.alpha > 0, "[mobilenet] the width multiplier must be positive, got {}", o.alpha);
  nn::Builder b = start("mobilenet", o, 224, 32);
  const auto width = [&](Index filters) { return static_cast<Index>(static_cast<double>(filters) * o.alpha); };
  check(width(32) > 0, "[mobilenet] a width multiplier of {} leaves the first layer without channels", o.alpha);

  Node x = b.add("conv1", nn::Conv2d({.out = width(32), .kernel = 3, .stride = 2, .padding = kSame, .bias = false}),
                 b.input());
  x = b.add("conv1_bn", nn::BatchNorm(), x);
  x = b.add("conv1_relu", nn::Activate(Activation::relu6), x);

  struct Block {
    Index filters, stride;
  };
  constexpr Block kBlocks[] = {{64, 1},  {128, 2}, {128, 1}, {256, 2}, {256, 1},  {512, 2}, {512, 1},
                               {512, 1}, {512, 1}, {512, 1}, {512, 1}, {1024, 2}, {1024, 1}};
  int i = 1;
  for (const Block& block : kBlocks) {
    // A stride of 2 pads below and to the right only, whatever the size: not what `same` does on odd sizes.
    if (block.stride == 2) x = b.add(fmt::format("conv_pad_{}", i), nn::ZeroPad({.bottom = 1, .right = 1}), x);
    x = b.add(fmt::format("conv_dw_{}", i),
              nn::DepthwiseConv2d(
                  {.kernel = 3, .stride = block.stride, .padding = block.stride == 2 ? kValid : kSame, .bias = false}),
              x);
    x = b.add(fmt::format("conv_dw_{}_bn", i), nn::BatchNorm(), x);
    x = b.add(fmt::format("conv_dw_{}_relu", i), nn::Activate(Activation::relu6), x);
    x = b.add(fmt::format("conv_pw_{}", i), nn::Conv2d({.out = width(block.filters), .kernel = 1, .bias = false}), x);
    x = b.add(fmt::format("conv_pw_{}_bn", i), nn::BatchNorm(), x);
    x = b.add(fmt::format("conv_pw_{}_relu", i), nn::Activate(Activation::relu6), x);
    ++i;
  }
  if (o.include_top) {
    b.features(x);
    x = b.add("global_average_pooling2d", nn::GlobalAveragePool(true), x);
    x = b.add("dropout", nn::Dropout({.rate = 1e-3}), x);
    x = b.add("conv_preds", nn::Conv2d({.out = o.classes, .kernel = 1}), x);
    x = b.add("reshape_2", nn::Reshape({o.classes}), x);
    x = b.add("predictions", nn::Softmax(), x);
  } else {
    x = finish_without_top(b, o, x, "global_average_pooling2d", "global_max_pooling2d");
  }
  return with_preprocessing(b.build(x), tf_preprocessing());
}

}  // namespace graft::models
