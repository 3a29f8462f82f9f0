#include "models/support.h"

namespace graft::models {
namespace {

// Keras numbers the convolutions of Inception v3, their batch-norms and activations in the order of creation, and each
// kind of pooling and concatenation too.
class Inception {
 public:
  explicit Inception(nn::Builder& b) : b_(b) {}

  Node conv(Node x, Index filters, Extent kernel, Index stride = 1, Padding padding = kSame) {
    const std::string number = suffix(convs_++);
    x = b_.add("conv2d" + number,
               nn::Conv2d({.out = filters, .kernel = kernel, .stride = stride, .padding = padding, .bias = false}), x);
    x = b_.add("batch_normalization" + number, nn::BatchNorm({.scale = false}), x);
    return b_.add("activation" + number, nn::Activate(Activation::relu), x);
  }
  Node max_pool(Node x) {
    return b_.add("max_pooling2d" + suffix(max_pools_++), nn::MaxPool({.kernel = 3, .stride = 2}), x);
  }
  Node average_pool(Node x) {
    return b_.add("average_pooling2d" + suffix(average_pools_++), nn::AveragePool({.kernel = 3, .padding = kSame}), x);
  }
  Node concat(std::vector<Node> parts, std::string name = "") {
    if (name.empty()) name = "concatenate" + suffix(concats_++);
    return b_.add(name, nn::Concat(), std::move(parts));
  }

  // 35x35: 1x1, 5x5, two 3x3 in a row, pooling.
  Node block_a(Node x, Index pool_filters, const std::string& name) {
    const Node one = conv(x, 64, 1);
    const Node five = conv(conv(x, 48, 1), 64, 5);
    const Node three = conv(conv(conv(x, 64, 1), 96, 3), 96, 3);
    return concat({one, five, three, conv(average_pool(x), pool_filters, 1)}, name);
  }
  // 17x17: 1x1, 7x7 as 1x7 and 7x1, the same twice, pooling.
  Node block_b(Node x, Index filters, const std::string& name) {
    const Node one = conv(x, 192, 1);
    const Node seven = conv(conv(conv(x, filters, 1), filters, {1, 7}), 192, {7, 1});
    Node twice = conv(conv(x, filters, 1), filters, {7, 1});
    twice = conv(conv(conv(twice, filters, {1, 7}), filters, {7, 1}), 192, {1, 7});
    return concat({one, seven, twice, conv(average_pool(x), 192, 1)}, name);
  }
  // 8x8: 1x1, 3x3 split into 1x3 beside 3x1, the same after another 3x3, pooling.
  Node block_c(Node x, const std::string& name, const std::string& split_name) {
    const Node one = conv(x, 320, 1);
    const Node stem = conv(x, 384, 1);
    const Node wide = conv(stem, 384, {1, 3});
    const Node split = concat({wide, conv(stem, 384, {3, 1})}, split_name);
    const Node deep = conv(conv(x, 448, 1), 384, 3);
    const Node deep_wide = conv(deep, 384, {1, 3});
    const Node deep_split = concat({deep_wide, conv(deep, 384, {3, 1})});
    return concat({one, split, deep_split, conv(average_pool(x), 192, 1)}, name);
  }

 private:
  static std::string suffix(int number) { return number == 0 ? "" : fmt::format("_{}", number); }

  nn::Builder& b_;
  int convs_ = 0, max_pools_ = 0, average_pools_ = 0, concats_ = 0;
};

}  // namespace

nn::Network inception_v3(const Options& o) {
  nn::Builder b = start("inception_v3", o, 299, 75);
  Inception net(b);
  Node x = net.conv(b.input(), 32, 3, 2, kValid);
  x = net.conv(x, 32, 3, 1, kValid);
  x = net.conv(x, 64, 3);
  x = net.max_pool(x);
  x = net.conv(x, 80, 1, 1, kValid);
  x = net.conv(x, 192, 3, 1, kValid);
  x = net.max_pool(x);

  x = net.block_a(x, 32, "mixed0");
  x = net.block_a(x, 64, "mixed1");
  x = net.block_a(x, 64, "mixed2");

  const Node three = net.conv(x, 384, 3, 2, kValid);
  const Node double_three = net.conv(net.conv(net.conv(x, 64, 1), 96, 3), 96, 3, 2, kValid);
  x = net.concat({three, double_three, net.max_pool(x)}, "mixed3");

  x = net.block_b(x, 128, "mixed4");
  x = net.block_b(x, 160, "mixed5");
  x = net.block_b(x, 160, "mixed6");
  x = net.block_b(x, 192, "mixed7");

  const Node reduced = net.conv(net.conv(x, 192, 1), 320, 3, 2, kValid);
  const Node seven = net.conv(net.conv(net.conv(net.conv(x, 192, 1), 192, {1, 7}), 192, {7, 1}), 192, 3, 2, kValid);
  x = net.concat({reduced, seven, net.max_pool(x)}, "mixed8");

  x = net.block_c(x, "mixed9", "mixed9_0");
  x = net.block_c(x, "mixed10", "mixed9_1");

  if (o.include_top) {
    x = b.add("avg_pool", nn::GlobalAveragePool(), x);
    b.features(x);
    x = b.add("predictions", nn::Linear({.out = o.classes, .softmax = true}), x);
  } else {
    x = finish_without_top(b, o, x, "global_average_pooling2d", "global_max_pooling2d");
  }
  return with_preprocessing(b.build(x), tf_preprocessing());
}

}  // namespace graft::models
