#include <cmath>
#include <functional>
#include <thread>

#include <gtest/gtest.h>

#include "graft/core/error.h"
#include "graft/core/graph.h"
#include "graft/models/models.h"
#include "graft/ops/ops.h"
#include "graft/plan/plan.h"

#include "kernels/registry.h"
#include "runtime/launches.h"
#include "support/op_check.h"

// cuDNN and cuBLASLt on a GPU. That they compute the right numbers the tables of tests/ops show, which run every engine
// of every device; here is what those do not look at.
namespace graft {
namespace {

using test::random_normal;

class LibraryOnDevice : public testing::Test {
 protected:
  void SetUp() override {
    if (!kernels::built().cudnn) GTEST_SKIP() << "this build is without cuDNN";
    const std::vector<Device> devices = test::devices();
    if (devices.empty() || devices.front().kind != Device::Kind::cuda)
      GTEST_SKIP() << "no GPU here: cuDNN and cuBLAS were not run";
    device_ = devices.front();
    scope_->engine = Engine::library;
    scope_->device = device_;
  }

  Tensor normal(const Shape& shape, DType type, std::uint64_t seed = 1) {
    return random_normal(shape, seed).to(type).to(device_);
  }
  static std::vector<float> values(const Tensor& tensor) {
    const Tensor here = tensor.to(Device{}).to(DType::f32);
    return {here.values<float>().begin(), here.values<float>().end()};
  }

  Device device_;
  ContextScope scope_;
};

// A call that was silently left to graft's own kernels would pass every other test.
TEST_F(LibraryOnDevice, TakesTheLayersOfNetworks) {
  for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
    SCOPED_TRACE(name(type));
    reset_launch_counts();
    const Tensor x = normal({2, 14, 14, 64}, type), w = normal({128, 3, 3, 64}, DType::f32),
                 bias = normal({128}, DType::f32);
    EXPECT_NO_THROW(ops::conv2d(x, w.to(type), {.padding = kSame}));
    EXPECT_NO_THROW(ops::conv2d(x, w, {.padding = kSame, .activation = Activation::relu}, bias));
    const Tensor rows = normal({8, 256}, type), matrix = normal({512, 256}, DType::f32),
                 shift = normal({512}, DType::f32);
    EXPECT_NO_THROW(ops::linear(rows, matrix, shift, Activation::relu));
    EXPECT_NO_THROW(ops::matmul(normal({4, 32, 64}, type), normal({4, 64, 48}, type)));
    if (type != DType::f32) {
      const Tensor qkv = normal({2, 197, 3 * 192}, type);
      EXPECT_NO_THROW(ops::attention(qkv, {.heads = 3}));
      EXPECT_EQ(launch_counts()["cudnn_attention"], 1);
    }
    EXPECT_EQ(launch_counts()["cudnn_conv2d"], 2);
    EXPECT_EQ(launch_counts()["cublas_linear"], 1);
    EXPECT_EQ(launch_counts()["cublas_matmul"], 1);
  }
}

// Each kernel that the tables give to cuDNN or cuBLASLt, gradients too, is theirs for at least one of the types.
TEST_F(LibraryOnDevice, ComputesWhatTheTablesSay) {
  struct Case {
    std::shared_ptr<const Op> op;
    std::vector<Shape> inputs;
    Slots gradients = {};
  };
  const ops::BatchNormOptions batch{.statistics = ops::Statistics::batch};
  const Shape image{2, 14, 14, 64}, channels{64};
  const std::vector<Case> cases{
      {std::make_shared<ops::Conv2d>(ops::Conv2dOptions{.padding = kSame}, false, false),
       {image, {128, 3, 3, 64}},
       {0, 1}},
      {std::make_shared<ops::DepthwiseConv2d>(ops::DepthwiseConv2dOptions{.padding = kSame}, false),
       {image, {3, 3, 64}},
       {0, 1}},
      {std::make_shared<ops::Linear>(Activation::linear, false), {{8, 256}, {512, 256}}, {0, 1}},
      {std::make_shared<ops::Matmul>(), {{4, 32, 64}, {4, 64, 48}}},
      {std::make_shared<ops::BatchNorm>(batch, true, true, false),
       {image, channels, channels, channels, channels},
       {0, 1, 2}},
      {std::make_shared<ops::BatchNorm>(ops::BatchNormOptions{}, true, true, false),
       {image, channels, channels, channels, channels}},
      {std::make_shared<ops::LayerNorm>(1e-6), {{8, 197, 192}, {192}, {192}}},
      {std::make_shared<ops::Attention>(ops::AttentionOptions{.heads = 3}, true), {{2, 197, 3 * 192}}, {0}},
  };
  reset_launch_counts();
  std::string refused;
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const Case& c : cases) {
      std::vector<Tensor> inputs, outputs;
      std::vector<Spec> specs;
      for (const Shape& shape : c.inputs) {
        const bool half = inputs.empty() || c.op->name() == "matmul";
        inputs.push_back(Tensor::full(shape, 0.5, half ? type : DType::f32, device_));
        specs.push_back(inputs.back().spec());
      }
      for (const Spec& spec : c.op->infer(specs)) outputs.push_back(Tensor::empty(spec.shape, spec.dtype, device_));
      const std::vector<Operand> in(inputs.begin(), inputs.end());
      std::vector<Operand> out(outputs.begin(), outputs.end());
      for (std::size_t i = 0; i < out.size(); ++i) {  // what only a backward would read
        if (c.op->optional_outputs().has(static_cast<int>(i)) && !c.gradients.any()) out[i] = {};
      }
      std::vector<Tensor> gradients(inputs.size());
      std::vector<Gradient> dx(inputs.size());
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        if (!c.gradients.has(static_cast<int>(i))) continue;
        gradients[i] = Tensor::empty(inputs[i].shape(), inputs[i].dtype(), device_);
        dx[i] = {gradients[i], false};
      }
      try {
        c.op->forward(Context::current(), in, out);
        if (c.gradients.any()) c.op->backward(Context::current(), {in, out}, {out.data(), 1}, dx);
      } catch (const Error& error) {
        refused += error.what() + std::string("\n");
      }
    }
  }
  const auto counts = launch_counts();
  for (const kernels::Entry& entry : kernels::all()) {
    if (!entry.cuda.library || entry.name == "conv2d_batch_norm") continue;  // one kernel after the other
    const std::string name(entry.name);
    EXPECT_EQ(counts.count("cudnn_" + name) + counts.count("cublas_" + name), 1u) << name << '\n' << refused;
  }
}

// At the sizes of networks a library may take kernels that no smaller test meets.
TEST_F(LibraryOnDevice, NetworksOfFullSizeAgreeWithGraftsOwnKernels) {
  for (const char* model : {"vgg16", "resnet50", "mobilenet", "inception_v3", "vit_base"}) {
    nn::Network network = models::make(model);
    network.materialize();
    network.to(device_);
    const Shape& image = network.input_shape();
    const Tensor images = random_normal({8, image[0], image[1], 3}, 1).to(DType::f32);
    for (const DType type : {DType::f32, DType::bf16}) {
      SCOPED_TRACE(std::string(model) + " " + std::string(name(type)));
      const plan::Plan plan =
          plan::compile(network, images.shape(), {.dtype = type, .outputs = {}, .logits = true, .given = {}});
      const auto logits = [&](Engine engine) {
        scope_->engine = engine;
        return values(plan.run(images.to(type)).back());
      };
      const std::vector<float> own = logits(Engine::native), chosen = logits(Engine::automatic);
      float largest = 0, apart = 0;
      for (std::size_t i = 0; i < own.size(); ++i) {
        largest = std::max(largest, std::fabs(own[i]));
        apart = std::max(apart, std::fabs(own[i] - chosen[i]));
      }
      EXPECT_GT(largest, 0);
      EXPECT_LE(apart, (type == DType::f32 ? 1e-3f : 5e-2f) * largest);
    }
  }
}

TEST_F(LibraryOnDevice, LeavesWhatItHasNotToAnError) {
  const Tensor x = normal({1, 8, 8, 4}, DType::f64), w = normal({4, 3, 3, 4}, DType::f64);
  EXPECT_THROW(ops::conv2d(x, w), Error);
  scope_->engine = Engine::automatic;
  EXPECT_NO_THROW(ops::conv2d(x, w));
}

// A Plan may let a convolution write over its residual.
TEST_F(LibraryOnDevice, TheResidualMayBeTheResult) {
  const Tensor x = Tensor::full({1, 7, 7, 64}, 0.5, DType::bf16, device_),
               w = Tensor::full({32, 1, 1, 64}, 0.25, DType::bf16, device_),
               bias = Tensor::full({32}, 1, DType::f32, device_),
               y = Tensor::full({1, 7, 7, 32}, 3, DType::bf16, device_);
  const std::vector<Operand> in{x, w, bias, y}, out{y};
  ops::Conv2d({}, true, true).forward(Context::current(), in, out);
  EXPECT_EQ(values(y), std::vector<float>(7 * 7 * 32, 64 * 0.5f * 0.25f + 1 + 3));
}

TEST_F(LibraryOnDevice, ServesManyThreadsAtOnce) {
  const Tensor x = normal({2, 14, 14, 64}, DType::bf16), w = normal({64, 3, 3, 64}, DType::bf16, 2);
  const auto once = [&] { return values(ops::conv2d(x, w, {.padding = kSame})); };
  const std::vector<float> want = once();
  std::vector<int> different(4);
  std::vector<std::thread> threads;
  threads.reserve(different.size());
  for (int& count : different) {
    threads.emplace_back([&] {
      Context::current().engine = Engine::library;
      Context::current().device = device_;
      for (int run = 0; run < 20; ++run) count += once() != want;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(different, std::vector<int>(4));
}

TEST_F(LibraryOnDevice, IsRecordedOnceAPlanExists) {
  const Tensor x = normal({2, 14, 14, 64}, DType::bf16), w = normal({64, 3, 3, 64}, DType::bf16, 2),
               rows = normal({8, 256}, DType::bf16), matrix = normal({512, 256}, DType::bf16);
  const std::vector<float> image = values(ops::conv2d(x, w, {.padding = kSame})),
                           product = values(ops::linear(rows, matrix));
  Tensor recorded_image, recorded_product;
  const Graph graph = Graph::record(device_, [&] {
    recorded_image = ops::conv2d(x, w, {.padding = kSame});
    recorded_product = ops::linear(rows, matrix);
  });
  graph.replay();
  EXPECT_EQ(values(recorded_image), image);
  EXPECT_EQ(values(recorded_product), product);
}

TEST_F(LibraryOnDevice, GivesTheSameBitsInEveryRun) {
  for (const DType type : {DType::f32, DType::bf16}) {
    const Tensor x = normal({8, 28, 28, 64}, type), dz = normal({8, 28, 28, 64}, type, 2);
    const ops::Conv2d op({.padding = kSame}, false, false);
    const auto gradient = [&] {
      const Tensor dw = Tensor::empty({64, 3, 3, 64}, DType::f32, device_);
      std::vector<Gradient> dx(2);
      dx[1] = {dw, false};
      Operand w = dw;
      w.data = nullptr;
      const std::vector<Operand> inputs{x, w}, outputs(1), dy{dz};
      op.backward(Context::current(), {inputs, outputs}, dy, dx);
      return values(dw);
    };
    const std::vector<float> first = gradient();
    for (int run = 0; run < 5; ++run) EXPECT_EQ(gradient(), first) << name(type);
  }
}

}  // namespace
}  // namespace graft
