#include <cmath>
#include <cstring>
#include <limits>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "kernels/batch_norm.h"
#include "kernels/conv2d_batch_norm.h"
#include "kernels/depthwise_conv2d.h"
#include "kernels/elementwise.h"
#include "kernels/layer_norm.h"
#include "kernels/pool.h"
#include "support/op_check.h"

namespace graft {
namespace {

using test::random_normal;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Where operands lie: in a channel range of wider rows, whose other channels are NaN.
struct Margins {
  Index before = 0, after = 0;
};

// Operands of one call of a kernel, on one device.
class Operands {
 public:
  Operands(Device device, DType dtype, Margins margins) : device_(device), dtype_(dtype), margins_(margins) {}

  Operand input(const Shape& shape, std::uint64_t seed) { return ranged(random_normal(shape, seed).to(dtype_)); }
  Operand output(const Shape& shape) { return ranged(Tensor::full(shape, static_cast<double>(kNaN), dtype_)); }
  Operand output(const Shape& shape, DType dtype) { return ranged(Tensor::full(shape, 0., dtype)); }
  // Numbers of each channel or row lie by themselves.
  Operand statistics(const Shape& shape, std::uint64_t seed) {
    Tensor values = random_normal(shape, seed).to(DType::f32);
    for (Index i = 0; i < values.elements(); ++i)
      values.mutable_data<float>()[i] = 1.5f + std::tanh(values.data<float>()[i]);
    memory_.push_back(values.to(device_));
    return memory_.back();
  }

  // What the operands hold after the call, margins checked and left out.
  std::vector<float> results() const {
    std::vector<float> all;
    for (const Tensor& tensor : memory_) {
      const Tensor host = tensor.to(Device{}).to(DType::f32);
      const Index channels = host.shape().channels();
      const bool wide = host.shape().rank() == 4;
      for (Index i = 0; i < host.elements(); ++i) {
        const Index channel = i % channels;
        const bool inside = !wide || (channel >= margins_.before && channel < channels - margins_.after);
        const float value = host.data<float>()[i];
        if (inside)
          all.push_back(value);
        else if (is_floating(tensor.dtype()))
          EXPECT_TRUE(std::isnan(value)) << "written outside the channel range";
        else
          EXPECT_EQ(value, 77) << "written outside the channel range";
      }
    }
    return all;
  }

 private:
  Operand ranged(const Tensor& values) {
    const Index channels = values.shape().channels(), width = margins_.before + channels + margins_.after;
    Tensor wide = Tensor::full(values.shape().with(3, width),
                               is_floating(values.dtype()) ? static_cast<double>(kNaN) : 77., values.dtype());
    const auto size = size_of(values.dtype());
    for (Index row = 0; row < values.shape().rows(); ++row) {
      std::memcpy(static_cast<std::byte*>(wide.raw()) + static_cast<std::size_t>(row * width + margins_.before) * size,
                  static_cast<const std::byte*>(values.raw()) + static_cast<std::size_t>(row * channels) * size,
                  static_cast<std::size_t>(channels) * size);
    }
    memory_.push_back(wide.to(device_));
    Operand operand(static_cast<std::byte*>(memory_.back().raw()) + static_cast<std::size_t>(margins_.before) * size,
                    values.shape(), values.dtype());
    operand.pitch = width;
    return operand;
  }

  Device device_;
  DType dtype_;
  Margins margins_;
  std::vector<Tensor> memory_;
};

// Runs a call on operands of their own on the CPU with its readable kernels, and with all of graft's on ranges of wider
// rows on each device: beside margins of 16 bytes, where vectors fit, and of other sizes, where they do not.
template <class Call>
void expect_ranges_work(const Call& call) {
  std::vector<Device> devices = test::devices();
  devices.push_back({});
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const auto run = [&](Device device, Margins margins, Engine engine = Engine::native) {
      ContextScope scope;
      scope->engine = engine;
      scope->device = device;
      Operands operands(device, dtype, margins);
      call(Context::current(), operands);
      return operands.results();
    };
    const std::vector<float> want = run({}, {}, Engine::reference);
    const double bound = dtype == DType::f32    ? 2e-5
                         : dtype == DType::bf16 ? 0x1p-7
                                                : 0x1p-10;  // the last bit of halves
    for (const Device device : devices) {
      for (const Margins margins : {Margins{8, 8}, Margins{4, 8}, Margins{3, 2}, Margins{0, 4}}) {
        SCOPED_TRACE(fmt::format("{}, {}, {} channels before", device.to_string(), name(dtype), margins.before));
        const std::vector<float> got = run(device, margins);
        ASSERT_EQ(got.size(), want.size());
        for (std::size_t i = 0; i < got.size(); ++i)
          ASSERT_NEAR(got[i], want[i], bound * std::fmax(1, std::fabs(want[i])));
      }
    }
  }
}

const Shape kImage{2, 5, 6, 8};

TEST(ChannelRanges, MaxPool) {
  const WindowGeometry g = lay("max_pool", {.kernel = 3, .stride = 2, .padding = kSame}, kImage);
  const Shape pooled{2, g.out_height, g.out_width, 8};
  expect_ranges_work([&](Context& context, Operands& operands) {
    const Operand positions = operands.output(pooled, DType::u8);
    kernels::max_pool_forward(context, g, operands.input(kImage, 1), operands.output(pooled), positions);
    kernels::max_pool_backward(context, g, positions, operands.input(pooled, 2), {operands.output(kImage), false});
    kernels::max_pool_backward(context, g, positions, operands.input(pooled, 2), {operands.input(kImage, 3), true});
  });
}

TEST(ChannelRanges, AveragePool) {
  for (const Window& window : {Window{.kernel = 3, .padding = kSame}, Window{.kernel = {5, 6}}}) {
    const WindowGeometry g = lay("average_pool", window, kImage);
    const Shape pooled{2, g.out_height, g.out_width, 8};
    expect_ranges_work([&](Context& context, Operands& operands) {
      kernels::average_pool_forward(context, g, operands.input(kImage, 1), operands.output(pooled));
      kernels::average_pool_backward(context, g, operands.input(pooled, 2), {operands.output(kImage), false});
      kernels::average_pool_backward(context, g, operands.input(pooled, 2), {operands.input(kImage, 3), true});
    });
  }
}

TEST(ChannelRanges, DepthwiseConv2d) {
  for (const Index stride : {1, 2, 3}) {
    const DepthwiseGeometry g{lay("depthwise_conv2d", {.kernel = 3, .stride = stride, .padding = kSame}, kImage), 1};
    const Shape result{2, g.out_height, g.out_width, 8};
    expect_ranges_work([&](Context& context, Operands& operands) {
      const Operand w = operands.statistics({3, 3, 8}, 4), dz = operands.input(result, 2);
      const Operand x = operands.input(kImage, 1);
      kernels::depthwise_conv2d_forward(context, g, x, w, operands.statistics({8}, 5), Activation::relu,
                                        operands.output(result));
      kernels::depthwise_conv2d_backward_input(context, g, dz, w, {operands.output(kImage), false});
      kernels::depthwise_conv2d_backward_input(context, g, dz, w, {operands.input(kImage, 3), true});
      kernels::depthwise_conv2d_backward_weight(context, g, x, dz, {operands.statistics({3, 3, 8}, 6), true});
    });
  }
}

TEST(ChannelRanges, BatchNorm) {
  const BatchNormAttributes attributes{.momentum = 0.7, .activation = Activation::relu};
  expect_ranges_work([&](Context& context, Operands& operands) {
    const auto channel = [&](std::uint64_t seed) { return operands.statistics({8}, seed); };
    const Operand x = operands.input(kImage, 1), residual = operands.input(kImage, 2), dz = operands.input(kImage, 3);
    const Operand gamma = channel(4), beta = channel(5);
    const ChannelStatistics moving{channel(6), channel(7)}, saved{channel(8), channel(9)};
    kernels::batch_norm_moving(context, attributes, x, gamma, beta, residual, moving, operands.output(kImage));
    kernels::batch_norm_moving_backward(context, attributes, x, gamma, moving, dz,
                                        {{operands.output(kImage), false}, {channel(10), true}, {channel(11), false}});
    kernels::batch_norm_batch(context, attributes, x, gamma, beta, residual, moving, operands.output(kImage), saved);
    kernels::batch_norm_batch_backward(context, attributes, x, gamma, beta, saved, dz,
                                       {{operands.input(kImage, 12), true}, {channel(13), false}, {channel(14), true}});
  });
}

TEST(ChannelRanges, Conv2dBatchNorm) {
  const ConvGeometry g{lay("conv2d", {.kernel = 3, .padding = kSame}, kImage), 8};
  expect_ranges_work([&](Context& context, Operands& operands) {
    const auto channel = [&](std::uint64_t seed) { return operands.statistics({8}, seed); };
    const Operand weights = operands.statistics({8 * 3 * 3 * 8}, 4);
    kernels::conv2d_batch_norm(context, g, {.activation = Activation::relu},
                               {.x = operands.input(kImage, 1),
                                .w = Operand(weights.data, {8, 3, 3, 8}, weights.dtype),
                                .bias = channel(5),
                                .gamma = channel(6),
                                .beta = channel(7),
                                .residual = operands.input(kImage, 2),
                                .moving = {channel(8), channel(9)},
                                .z = operands.output(kImage),
                                .y = operands.output(kImage),
                                .saved = {channel(10), channel(11)}});
  });
}

TEST(ChannelRanges, Elementwise) {
  for (const Activation function : {Activation::relu, Activation::relu6, Activation::tanh}) {
    expect_ranges_work([&](Context& context, Operands& operands) {
      const Operand x = operands.input(kImage, 1), dy = operands.input(kImage, 2);
      kernels::activation_forward(context, function, x, operands.output(kImage));
      kernels::activation_backward(context, function, x, dy, {operands.output(kImage), false});
      kernels::activation_backward(context, function, x, dy, {operands.input(kImage, 3), true});
      kernels::activation_backward(context, function, x, dy, {dy, false});
      kernels::add_into(context, x, operands.input(kImage, 4));
      kernels::cast(context, x, operands.output(kImage), false);
      kernels::cast(context, x, operands.input(kImage, 5), true);
    });
  }
}

TEST(ChannelRanges, LayerNorm) {
  expect_ranges_work([&](Context& context, Operands& operands) {
    const Operand x = operands.input(kImage, 1), dy = operands.input(kImage, 2);
    const Operand gamma = operands.statistics({8}, 3), beta = operands.statistics({8}, 4);
    const Operand mean = operands.statistics({60}, 5), inverse = operands.statistics({60}, 6);
    kernels::layer_norm_forward(context, 1e-3, x, gamma, beta, operands.output(kImage), mean, inverse);
    kernels::layer_norm_backward_input(context, x, gamma, mean, inverse, dy, {operands.output(kImage), false});
    kernels::layer_norm_backward_input(context, x, gamma, mean, inverse, dy, {operands.input(kImage, 7), true});
    kernels::layer_norm_backward_gamma(context, x, mean, inverse, dy, {operands.statistics({8}, 8), true});
  });
}

}  // namespace
}  // namespace graft
