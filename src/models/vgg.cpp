#include "models/support.h"

namespace graft::models {
namespace {

// Five blocks of 3x3 convolutions, each followed by a pooling that halves the image.
nn::Network vgg(std::string_view name, const Options& o, const std::vector<int>& depths) {
  nn::Builder b = start(name, o, 224, 32);
  Node x = b.input();
  for (std::size_t block = 1; block <= depths.size(); ++block) {
    const Index filters = std::min<Index>(512, Index{32} << block);
    for (int conv = 1; conv <= depths[block - 1]; ++conv) {
      x = b.add(fmt::format("block{}_conv{}", block, conv),
                nn::Conv2d({.out = filters, .kernel = 3, .padding = kSame, .activation = Activation::relu}), x);
    }
    x = b.add(fmt::format("block{}_pool", block), nn::MaxPool({.kernel = 2, .stride = 2}), x);
  }
  if (o.include_top) {
    b.features(x);
    x = b.add("flatten", nn::Flatten(), x);
    x = b.add("fc1", nn::Linear({.out = 4096, .activation = Activation::relu}), x);
    x = b.add("fc2", nn::Linear({.out = 4096, .activation = Activation::relu}), x);
    x = b.add("predictions", nn::Linear({.out = o.classes, .softmax = true}), x);
  } else {
    x = finish_without_top(b, o, x, "global_average_pooling2d", "global_max_pooling2d");
  }
  return with_preprocessing(b.build(x), caffe_preprocessing());
}

}  // namespace

nn::Network vgg16(const Options& options) { return vgg("vgg16", options, {2, 2, 3, 3, 3}); }
nn::Network vgg19(const Options& options) { return vgg("vgg19", options, {2, 2, 4, 4, 4}); }

}  // namespace graft::models
