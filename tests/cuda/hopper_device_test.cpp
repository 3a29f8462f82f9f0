// The Hopper path behind the kernel contract: convolutions, linear layers and products of matrices in bfloat16 and
// float16 against the CPU's native kernels in f64. On the emulated device here, and on a GPU of compute capability 9.0
// where there is one (label `cuda`).

#include <array>
#include <cmath>
#include <cstdlib>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "graft/core/context.h"
#include "graft/core/error.h"
#include "graft/core/generator.h"
#include "graft/ops/conv2d_batch_norm.h"

#include "core/backend.h"
#include "kernels/conv2d.h"
#include "kernels/linear.h"
#include "kernels/matmul.h"
#include "runtime/launches.h"

namespace graft {
namespace {

constexpr Device kEmulated{Device::Kind::emulated, 0}, kCuda{Device::Kind::cuda, 0};

// A tensor whose rows of channels are a range of wider ones, on the CPU in f64 and on the device in another type. The
// values are small whole numbers, so that every sum is exact in float and results agree to the last bit; beside the
// range stands NaN, which nobody may read or overwrite.
struct Pair {
  static constexpr Index kBefore = 8, kAfter = 8;

  Tensor exact, on_device;
  Operand reference, tested;

  Pair(const Shape& shape, std::uint64_t seed, int most, DType dtype, Device device, bool dense = false) {
    const Index channels = shape.channels(), before = dense ? 0 : kBefore,
                all = channels + (dense ? 0 : before + kAfter);
    const Index rows = shape.elements() / channels;
    exact = Tensor::empty({rows, all}, DType::f64);
    Generator generator{.seed = seed};
    for (Index i = 0; i < rows * all; ++i) {
      const bool inside = i % all >= before && i % all < before + channels;
      exact.mutable_data<double>()[i] = inside ? static_cast<double>(generator.below(2 * most + 1) - most) : NAN;
    }
    on_device = exact.to(dtype).to(device);
    const auto view = [&](const Tensor& tensor) {
      Operand operand(tensor);
      operand.shape = shape;
      operand.data = static_cast<std::byte*>(operand.data) + static_cast<std::size_t>(before) * size_of(tensor.dtype());
      return operand;
    };
    reference = view(exact);
    tested = view(on_device);
  }

  void expect_equal(std::string_view what) const {
    const Tensor expected = exact.to(on_device.dtype()).to(DType::f64), got = on_device.to(Device{}).to(DType::f64);
    for (Index i = 0; i < expected.elements(); ++i) {
      const double a = got.data<double>()[i], b = expected.data<double>()[i];
      ASSERT_TRUE(a == b || (std::isnan(a) && std::isnan(b)))
          << what << ": element " << i << " is " << a << ", expected " << b;
    }
  }
};

// Runs a kernel on the device, with kernels allowed that no GPU has proved, and on the CPU. Returns whether the Hopper
// path was taken.
template <class Run>
bool on_both(Device device, const Run& run) {
  {
    ContextScope scope;
    scope->engine = Engine::native;
    run(Context::current(), true);
  }
  ContextScope scope;
  scope->engine = Engine::native;
  scope->device = device;
  scope->allow_unproved = true;
  reset_launch_counts();
  run(Context::current(), false);
  synchronize(device);
  return launch_counts()["hopper_product"] > 0;
}

struct ConvCase {
  const char* what;
  Shape image;
  Index out;
  Window window = {};
  Index groups = 1;
  bool hopper = true;
};

void check_conv(Device device, DType dtype, const ConvCase& c) {
  SCOPED_TRACE(fmt::format("{}, {} on {}", c.what, name(dtype), device.to_string()));
  ConvGeometry g;
  static_cast<WindowGeometry&>(g) = lay("conv2d", c.window, c.image);
  g.out_channels = c.out;
  g.groups = c.groups;
  const Shape out{g.batch, g.out_height, g.out_width, c.out},
      weights{c.out, g.kernel_height, g.kernel_width, g.in_group()};
  const Pair x(c.image, 1, 4, dtype, device), w(weights, 2, 2, DType::f32, device, true),
      bias({c.out}, 3, 4, DType::f32, device, true), residual(out, 4, 4, dtype, device), dz(out, 5, 4, dtype, device);
  const auto pick = [](const Pair& p, bool exact) { return exact ? p.reference : p.tested; };

  const Pair y(out, 6, 4, dtype, device);
  EXPECT_EQ(on_both(device,
                    [&](Context& context, bool exact) {
                      kernels::conv2d_forward(context, g, pick(x, exact), pick(w, exact), pick(bias, exact),
                                              pick(residual, exact), Activation::relu, pick(y, exact));
                    }),
            c.hopper);
  y.expect_equal("y");
  for (const bool accumulate : {false, true}) {
    const Pair dx(c.image, 7, 4, dtype, device), dw(weights, 8, 4, DType::f32, device, true);
    EXPECT_EQ(on_both(device,
                      [&](Context& context, bool exact) {
                        kernels::conv2d_backward_input(context, g, pick(dz, exact), pick(w, exact),
                                                       {pick(dx, exact), accumulate});
                      }),
              c.hopper);
    dx.expect_equal("dx");
    EXPECT_EQ(on_both(device,
                      [&](Context& context, bool exact) {
                        kernels::conv2d_backward_weight(context, g, pick(x, exact), pick(dz, exact),
                                                        {pick(dw, exact), accumulate});
                      }),
              c.hopper);
    dw.expect_equal("dw");
  }
}

const std::vector<ConvCase>& conv_cases() {
  static const std::vector<ConvCase> cases{
      {"3x3", {1, 14, 14, 64}, 64, {.kernel = 3, .padding = kSame}},
      {"3x3 of odd sizes", {2, 9, 7, 40}, 72, {.kernel = 3, .padding = kSame}},
      {"3x3 without padding", {2, 10, 9, 96}, 136, {.kernel = 3}},
      {"1x1", {2, 8, 7, 136}, 96, {}},
      {"1x1, stride 2", {2, 14, 13, 64}, 72, {.stride = 2}},
      {"3x3, stride 2", {2, 14, 14, 48}, 64, {.kernel = 3, .stride = 2, .padding = kSame}},
      {"many pixels, whose sum is split", {5, 14, 14, 32}, 64, {.kernel = 3, .padding = kSame}},
      {"1x7", {1, 12, 11, 48}, 80, {.kernel = {1, 7}, .padding = kSame}},
      {"7x1", {1, 11, 12, 72}, 64, {.kernel = {7, 1}, .padding = kSame}},
      {"3x3, dilation 2", {1, 13, 13, 32}, 64, {.kernel = 3, .dilation = 2, .padding = kSame}},
      {"4x5, stride 3x1", {2, 14, 14, 40}, 64, {.kernel = {4, 5}, .stride = {3, 1}, .padding = {2, 3, 4, 0}}},
      {"groups: no one tensor map has them", {1, 9, 9, 128}, 128, {.kernel = 3}, 2, false},
      {"too few channels", {1, 9, 9, 24}, 24, {.kernel = 3}, 1, false},
  };
  return cases;
}

// A convolution and its norm as one op, for which the path leaves no moments, and as the two ops that it stands for.
void check_conv2d_batch_norm(Device device, DType dtype, const ConvCase& c) {
  SCOPED_TRACE(fmt::format("{} and its norm, {} on {}", c.what, name(dtype), device.to_string()));
  const WindowGeometry g = lay("conv2d", c.window, c.image);
  const auto normal = [&](const Shape& shape, std::uint64_t seed, DType type) {
    Tensor tensor = Tensor::empty(shape, DType::f64);
    Generator generator{.seed = seed};
    for (Index i = 0; i < tensor.elements(); ++i) tensor.mutable_data<double>()[i] = generator.normal();
    return tensor.to(type).to(device);
  };
  const Shape channels{c.out};
  const Tensor x = normal(c.image, 1, dtype), bias = normal(channels, 3, DType::f32),
               w = normal({c.out, g.kernel_height, g.kernel_width, g.channels}, 2, DType::f32),
               gamma = normal(channels, 4, DType::f32), beta = normal(channels, 5, DType::f32);
  const ops::Conv2dOptions convolution{
      .stride = c.window.stride, .dilation = c.window.dilation, .padding = c.window.padding};
  const ops::BatchNormOptions norm{.statistics = ops::Statistics::batch, .momentum = 0, .activation = Activation::relu};
  const auto run = [&](bool fused) {
    ContextScope scope;
    scope->engine = Engine::native;
    scope->device = device;
    scope->allow_unproved = true;
    const Tensor mean = Tensor::zeros(channels, DType::f32, device), variance = mean.clone();
    reset_launch_counts();
    const Tensor y = fused ? ops::conv2d_batch_norm(x, w, convolution, bias, gamma, beta, mean, variance, norm)
                           : ops::batch_norm(ops::conv2d(x, w, convolution, bias), gamma, beta, mean, variance, norm);
    synchronize(device);
    EXPECT_GT(launch_counts()["hopper_product"], 0) << (fused ? "as one op" : "as two ops");
    const auto on_host = [](const Tensor& tensor) { return tensor.to(Device{}).to(DType::f64); };
    return std::array{on_host(y), on_host(mean), on_host(variance)};
  };
  const std::array one = run(true), two = run(false);
  for (std::size_t i = 0; i < one.size(); ++i) {
    const double* const got = one[i].data<double>();
    const double* const want = two[i].data<double>();
    double largest = 0;
    for (Index at = 0; at < two[i].elements(); ++at) largest = std::fmax(largest, std::fabs(want[at]));
    const double tolerance = (i == 0 ? 0x1p-7 : 1e-5) * largest;  // y may be rounded to the half beside
    ASSERT_GT(largest, 0);
    for (Index at = 0; at < one[i].elements(); ++at)
      ASSERT_NEAR(got[at], want[at], tolerance) << std::array{"y", "mean", "variance"}[i] << ", element " << at;
  }
}

void check_linear(Device device, DType dtype, Index rows, Index in, Index out) {
  SCOPED_TRACE(fmt::format("[{}, {}] to {}, {} on {}", rows, in, out, name(dtype), device.to_string()));
  const Pair x({rows, in}, 1, 4, dtype, device), w({out, in}, 2, 2, DType::f32, device, true),
      bias({out}, 3, 4, DType::f32, device, true), y({rows, out}, 4, 4, dtype, device),
      dz({rows, out}, 5, 4, dtype, device), dx({rows, in}, 6, 4, dtype, device),
      dw({out, in}, 7, 4, DType::f32, device, true);
  const auto pick = [](const Pair& p, bool exact) { return exact ? p.reference : p.tested; };
  const bool whole_in = in % 8 == 0, whole_out = out % 8 == 0;  // TMA's rows begin at multiples of 16 bytes
  EXPECT_EQ(on_both(device,
                    [&](Context& context, bool exact) {
                      kernels::linear_forward(context, pick(x, exact), pick(w, exact), pick(bias, exact),
                                              Activation::relu, pick(y, exact));
                    }),
            whole_in);
  y.expect_equal("y");
  EXPECT_EQ(on_both(device,
                    [&](Context& context, bool exact) {
                      kernels::linear_backward_input(context, pick(dz, exact), pick(w, exact), {pick(dx, exact), true});
                    }),
            whole_in && whole_out);
  dx.expect_equal("dx");
  EXPECT_EQ(
      on_both(device,
              [&](Context& context, bool exact) {
                kernels::linear_backward_weight(context, pick(x, exact), pick(dz, exact), {pick(dw, exact), true});
              }),
      whole_in && whole_out && out >= 64);
  dw.expect_equal("dw");
}

// y [batches, ...] of a and b, of which b may be repeated, or the sum over the batches.
void check_matmul(Device device, DType dtype, bool transpose_a, bool transpose_b, bool repeat_b, bool sum) {
  SCOPED_TRACE(fmt::format("transposed {}{}, repeated {}, summed {}, {} on {}", transpose_a, transpose_b, repeat_b, sum,
                           name(dtype), device.to_string()));
  constexpr Index kBatches = 3, kRows = 136, kColumns = 72, kDepth = 80;
  const auto matrix = [](Index batches, Index rows, Index columns, bool transpose) {
    return transpose ? Shape{batches, columns, rows} : Shape{batches, rows, columns};
  };
  const Pair a(matrix(kBatches, kRows, kDepth, transpose_a), 1, 4, dtype, device),
      b(matrix(repeat_b ? 1 : kBatches, kDepth, kColumns, transpose_b), 2, 2, dtype, device),
      y({sum ? 1 : kBatches, kRows, kColumns}, 3, 4, dtype, device);
  const auto pick = [](const Pair& p, bool exact) { return exact ? p.reference : p.tested; };
  EXPECT_EQ(
      on_both(
          device,
          [&](Context& context, bool exact) {
            kernels::matmul(context, pick(a, exact), pick(b, exact), transpose_a, transpose_b, {pick(y, exact), true});
          }),
      !(transpose_a && transpose_b));
  y.expect_equal("y");
}

void check_matmuls(Device device, DType dtype) {
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) check_matmul(device, dtype, transpose_a, transpose_b, false, false);
  }
  check_matmul(device, dtype, false, false, true, false);
  check_matmul(device, dtype, true, false, false, true);
}

TEST(EmulatedHopper, Convolutions) {
  for (const ConvCase& c : conv_cases()) check_conv(kEmulated, DType::bf16, c);
  check_conv(kEmulated, DType::f16, conv_cases()[1]);
}
TEST(EmulatedHopper, ConvolutionsAndTheirNorms) {
  for (const std::size_t i : {1u, 3u}) check_conv2d_batch_norm(kEmulated, DType::bf16, conv_cases()[i]);
}
TEST(EmulatedHopper, LinearLayers) {
  check_linear(kEmulated, DType::bf16, 70, 200, 72);
  check_linear(kEmulated, DType::f16, 129, 64, 130);
  check_linear(kEmulated, DType::bf16, 70, 199, 72);  // rows that begin anywhere
}
TEST(EmulatedHopper, Products) { check_matmuls(kEmulated, DType::bf16); }
TEST(EmulatedHopper, IsNotTakenUnasked) {
  ContextScope scope;
  scope->device = kEmulated;
  const Tensor x = Tensor::zeros({128, 128}, DType::bf16, kEmulated),
               y = Tensor::zeros({128, 128}, DType::bf16, kEmulated);
  reset_launch_counts();
  kernels::linear_forward(Context::current(), x, x, {}, Activation::linear, y);
  EXPECT_EQ(launch_counts()["hopper_product"], 0);
  EXPECT_GT(launch_counts()["linear"], 0);
}

class CudaHopper : public testing::Test {
 protected:
  void SetUp() override {
    try {
      const DeviceDescription device = backend(kCuda).describe();
      if (device.architecture != "sm_90") GTEST_SKIP() << "cuda:0 is " << device.architecture << ", expected sm_90";
    } catch (const Error& error) {
      if (std::getenv("GRAFT_TEST_DEVICES") != nullptr) FAIL() << error.what();  // a proof needs the device
      GTEST_SKIP() << error.what();
    }
  }
};

TEST_F(CudaHopper, Convolutions) {
  std::vector<ConvCase> cases = conv_cases();
  cases.push_back({"ResNet50 conv2", {8, 56, 56, 64}, 64, {.kernel = 3, .padding = kSame}});
  cases.push_back({"ResNet50 conv4, 1x1", {8, 14, 14, 1024}, 256, {}});
  cases.push_back({"ResNet50 conv5, 1x1, stride 2", {8, 14, 14, 1024}, 512, {.stride = 2}});
  cases.push_back({"VGG16 block5", {4, 14, 14, 512}, 512, {.kernel = 3, .padding = kSame}});
  cases.push_back({"InceptionV3 mixed4", {8, 17, 17, 128}, 192, {.kernel = {7, 1}, .padding = kSame}});
  cases.push_back({"InceptionV3 mixed3", {8, 35, 35, 288}, 384, {.kernel = 3, .stride = 2}});
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (const ConvCase& c : cases) check_conv(kCuda, dtype, c);
  }
}
TEST_F(CudaHopper, ConvolutionsAndTheirNorms) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (const ConvCase& c : conv_cases()) {
      if (c.hopper) check_conv2d_batch_norm(kCuda, dtype, c);
    }
    check_conv2d_batch_norm(kCuda, dtype, {"ResNet50 conv4", {8, 14, 14, 256}, 256, {.kernel = 3, .padding = kSame}});
  }
}
TEST_F(CudaHopper, LinearLayers) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (const Index rows : {64, 127, 128, 129, 1000}) {
      for (const Index out : {32, 63, 64, 72, 128, 200, 256, 264, 1000}) check_linear(kCuda, dtype, rows, 328, out);
    }
    check_linear(kCuda, dtype, 4096, 1024, 1024);
  }
}
TEST_F(CudaHopper, Products) {
  check_matmuls(kCuda, DType::bf16);
  check_matmuls(kCuda, DType::f16);
}

}  // namespace
}  // namespace graft
