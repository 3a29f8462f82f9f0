// Every kind of convolution, pooling, normalisation, product and attention that graft's own networks are made of, on
// every engine and every device, against the native kernels in f64.
//
// The kinds are read off the networks' Programs and shrunk: heights and widths to 14 at most with the remainders that
// strides leave, channels to a few that keep their remainders. Each is then also tried at sizes that no network has.

#include <functional>
#include <map>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "graft/core/error.h"
#include "graft/models/models.h"
#include "graft/ops/ops.h"

#include "support/op_check.h"

namespace graft {
namespace {

using test::OpCase;
using test::random_normal;

constexpr Index kLargest = 14;  // height and width of an image

// An op with the shapes of its inputs.
struct Kind {
  std::shared_ptr<const Op> op;
  std::vector<Shape> inputs;

  std::string key() const {
    std::string text = fmt::format("{} ({})", op->name(), op->attributes());
    for (const Shape& shape : inputs) text += " " + shape.to_string();
    return text;
  }
};

template <class O>
const O* as(const Kind& kind) {
  return dynamic_cast<const O*>(kind.op.get());
}

// How the windows of an op lie on an image; a window of one pixel for the others.
Window window_of(const Kind& kind) {
  if (const auto* conv = as<ops::Conv2d>(kind))
    return {.kernel = {kind.inputs[1][1], kind.inputs[1][2]},
            .stride = conv->options.stride,
            .dilation = conv->options.dilation,
            .padding = conv->options.padding};
  if (const auto* conv = as<ops::DepthwiseConv2d>(kind))
    return {.kernel = {kind.inputs[1][0], kind.inputs[1][1]},
            .stride = conv->options.stride,
            .dilation = conv->options.dilation,
            .padding = conv->options.padding};
  if (const auto* pool = as<ops::MaxPool>(kind)) return pool->window;
  if (const auto* pool = as<ops::AveragePool>(kind)) return pool->window;
  return {};
}

// The largest side up to 14 that leaves a strided window the same remainder; where the window itself is larger, the
// smallest that it fits on.
Index smaller_side(Index side, Index kernel, Index stride, Index dilation) {
  const Index reach = (kernel - 1) * dilation + 1, limit = std::max(reach, kLargest);
  if (side <= limit) return side;
  const Index remainder = (side - limit) % stride, above = limit + remainder;
  return remainder > 0 && above - stride >= reach ? above - stride : above;
}

// Channels up to 16 stay as they are; more become 16 to 31 with the same remainder.
Index fewer_channels(Index channels) { return channels <= 16 ? channels : 16 + channels % 16; }

// What the extents of a kind become: functions of what they are.
struct Sizes {
  std::string what;
  Index batch = 2;
  std::function<Index(Index)> channels = fewer_channels, filters = fewer_channels;
  bool one_pixel = false;
};

Kind resized(const Kind& kind, const Sizes& sizes) {
  const Window window = window_of(kind);
  const auto side = [&](Index from, Index kernel, Index stride, Index dilation) {
    return sizes.one_pixel ? 1 : smaller_side(from, kernel, stride, dilation);
  };
  const Shape &x = kind.inputs[0], channels{sizes.channels(x[-1])};
  Shape to = x.with(0, sizes.batch).with(-1, channels[0]);
  if (x.rank() == 4) {
    to = to.with(1, side(x[1], window.kernel.height, window.stride.height, window.dilation.height));
    to = to.with(2, side(x[2], window.kernel.width, window.stride.width, window.dilation.width));
  }
  if (x.rank() == 3) to = to.with(1, sizes.one_pixel ? 1 : std::min(x[1], kLargest));  // tokens
  if (const auto* attention = as<ops::Attention>(kind)) {
    constexpr Index kDepth = 8;  // of a head
    to = to.with(-1, attention->options.heads * kDepth * (attention->packed ? 3 : 1));
    return {kind.op, std::vector<Shape>(kind.inputs.size(), to)};
  }
  Kind result{kind.op, {to}};
  const bool product = as<ops::Conv2d>(kind) || as<ops::Linear>(kind);
  for (std::size_t i = 1; i < kind.inputs.size(); ++i) {
    const Shape& shape = kind.inputs[i];
    if (product && i == 1)
      result.inputs.push_back(shape.with(0, sizes.filters(shape[0])).with(-1, sizes.channels(shape[-1])));
    else if (product)
      result.inputs.push_back({sizes.filters(shape[0])});
    else
      result.inputs.push_back(shape.with(-1, sizes.channels(shape[-1])));
  }
  return result;
}

std::vector<Spec> specs_of(const Kind& kind) {
  std::vector<Spec> specs;
  for (const Shape& shape : kind.inputs) specs.push_back({shape, DType::f64});
  return specs;
}

// One call of each kind in graft's networks, shrunk.
std::vector<Kind> kinds_of_the_zoo() {
  const std::set<std::string_view> names{
      "conv2d",     "depthwise_conv2d", "max_pool", "average_pool", "global_average_pool",
      "batch_norm", "layer_norm",       "linear",   "attention",    "softmax"};
  std::vector<Kind> kinds;
  std::set<std::string> seen;
  for (const std::string model : {"vgg16", "resnet50", "mobilenet", "inception_v3", "vit_tiny"}) {
    nn::Network network = models::make(model);
    for (const nn::Statistics statistics : {nn::Statistics::batch, nn::Statistics::moving}) {
      network.use_statistics(statistics);
      const nn::Program program =
          network.lower({1, network.input_shape()[0], network.input_shape()[1], 3}, {.training = true});
      for (const nn::Program::Call& call : program.calls) {
        if (!names.contains(call.op->name())) continue;
        Kind kind{call.op, {}};
        for (const nn::Value input : call.inputs) kind.inputs.push_back(program[input].spec.shape);
        kind = resized(kind, {});
        if (seen.insert(kind.key()).second) kinds.push_back(kind);
      }
    }
  }
  return kinds;
}

Index rows_of_result(const Kind& kind) { return kind.op->infer(specs_of(kind)).front().shape.rows(); }

// How an op's rows in tests/ops are made.
OpCase case_of(const Kind& kind, const std::string& what) {
  OpCase c{.what = what, .op = kind.op};
  for (std::size_t i = 0; i < kind.inputs.size(); ++i) c.inputs.push_back(random_normal(kind.inputs[i], i + 1));
  const Shape& x = kind.inputs[0];
  const Index rows = rows_of_result(kind);
  if (const auto* conv = as<ops::Conv2d>(kind)) {
    c.sum_of_products = conv->options.activation == Activation::linear;
    c.exact = {1, 2};
    c.sum_length = std::max(kind.inputs[1].elements(), rows) + 2;
  } else if (const auto* depthwise = as<ops::DepthwiseConv2d>(kind)) {
    c.sum_of_products = depthwise->options.activation == Activation::linear;
    c.exact = {1, 2};
    c.sum_length = std::max(kind.inputs[1][0] * kind.inputs[1][1], rows) + 1;
  } else if (const auto* linear = as<ops::Linear>(kind)) {
    c.sum_of_products = linear->activation == Activation::linear;
    c.exact = {1, 2};
    c.sum_length = std::max({kind.inputs[1][0], kind.inputs[1][1], rows}) + 1;
  } else if (as<ops::MaxPool>(kind)) {
    c.inputs[0] = test::distinct(x, 1);
  } else if (const auto* norm = as<ops::BatchNorm>(kind)) {
    c.constant = {norm->moving_mean(), norm->moving_variance()};
    for (int i = 1; i <= norm->moving_variance(); ++i) c.exact.add(i);
    Tensor& variance = c.inputs[static_cast<std::size_t>(norm->moving_variance())];
    for (Index i = 0; i < variance.elements(); ++i)
      variance.mutable_data<double>()[i] = 0.5 + variance.data<double>()[i] * variance.data<double>()[i];
    c.sum_length = std::max<Index>(1, rows);
  } else if (as<ops::LayerNorm>(kind)) {
    c.exact = {1, 2};
    c.sum_length = std::max(rows, x[-1]);
  } else if (as<ops::Attention>(kind)) {
    c.sum_length = x[1] + x[2];
  } else if (as<ops::GlobalAveragePool>(kind)) {
    c.sum_length = x[1] * x[2];
  }
  return c;
}

TEST(Zoo, HasEveryKind) {
  std::map<std::string_view, int> count;
  std::set<std::string> kernels;
  for (const Kind& kind : kinds_of_the_zoo()) {
    ++count[kind.op->name()];
    const Window window = window_of(kind);
    if (as<ops::Conv2d>(kind)) kernels.insert(fmt::format("{}x{}", window.kernel.height, window.kernel.width));
    if (kind.inputs[0].rank() == 4) {
      EXPECT_LE(kind.inputs[0][1], std::max(kLargest, window.kernel.height)) << kind.key();
      EXPECT_LE(kind.inputs[0][2], std::max(kLargest, window.kernel.width)) << kind.key();
    }
  }
  EXPECT_EQ(kernels, (std::set<std::string>{"1x1", "1x3", "1x7", "3x1", "3x3", "5x5", "7x1", "7x7", "16x16"}));
  EXPECT_EQ(count, (std::map<std::string_view, int>{{"attention", 1},
                                                    {"average_pool", 2},
                                                    {"batch_norm", 12},
                                                    {"conv2d", 25},
                                                    {"depthwise_conv2d", 3},
                                                    {"global_average_pool", 2},
                                                    {"layer_norm", 1},
                                                    {"linear", 3},
                                                    {"max_pool", 3},
                                                    {"softmax", 1}}));
}

// A kind, as it is in a network or at another size.
struct ZooCase {
  Kind kind;
  std::string what;
};

void PrintTo(const ZooCase& c, std::ostream* to) { *to << c.kind.key() << ", " << c.what; }

std::vector<ZooCase> table() {
  const auto constant = [](Index value) { return [value](Index) { return value; }; };
  const auto prime = [](Index channels) { return channels <= 3 ? channels : Index{13}; };
  const std::vector<Sizes> odd{
      {"prime channels, batch 1", 1, prime, constant(17)},
      {"one pixel", 3, fewer_channels, fewer_channels, true},
      {"empty batch", 0},
  };
  const std::vector<Sizes> edges{{"one filter less than a tile", 1, fewer_channels, constant(31)},
                                 {"a tile of filters", 1, fewer_channels, constant(32)},
                                 {"one filter more than a tile", 1, fewer_channels, constant(33)}};
  std::vector<ZooCase> cases;
  std::set<std::string> seen;
  std::size_t products = 0;
  const std::vector<Kind> kinds = kinds_of_the_zoo();
  cases.reserve(5 * kinds.size());
  for (const Kind& kind : kinds) cases.push_back({kind, "as in a network"});
  for (const Kind& kind : kinds) {
    std::vector<Sizes> all = odd;
    if (as<ops::Conv2d>(kind) || as<ops::Linear>(kind)) all.push_back(edges[products++ % edges.size()]);
    for (const Sizes& sizes : all) {
      const Kind other = resized(kind, sizes);
      try {
        other.op->infer(specs_of(other));
      } catch (const Error&) {  // a window does not fit on one pixel, or statistics need a batch
        continue;
      }
      if (seen.insert(other.key()).second) cases.push_back({other, sizes.what});
    }
  }
  return cases;
}

TEST(Zoo, HasOddSizesOfMostKinds) { EXPECT_GT(table().size(), 3 * kinds_of_the_zoo().size()); }

class ZooTable : public testing::TestWithParam<ZooCase> {};

TEST_P(ZooTable, AgreesWithTheNativeKernels) { test::check_engines(case_of(GetParam().kind, GetParam().what)); }

INSTANTIATE_TEST_SUITE_P(Zoo, ZooTable, testing::ValuesIn(table()));

}  // namespace
}  // namespace graft
