#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graft/core/error.h"
#include "graft/ops/batch_norm.h"
#include "graft/ops/conv2d.h"
#include "graft/ops/depthwise_conv2d.h"
#include "graft/ops/linear.h"
#include "graft/ops/matmul.h"
#include "graft/ops/pool.h"
#include "graft/ops/softmax.h"

#include "kernels/registry.h"
#include "support/expect.h"

namespace graft {
namespace {

struct LibraryCase {
  std::string what;
  std::shared_ptr<const Op> op;
  std::vector<Shape> inputs;
};

std::vector<Operand> operands(const std::vector<Tensor>& tensors) { return {tensors.begin(), tensors.end()}; }

// A kernel that silently left a network's layers to graft's own would pass every other test, slowly.
TEST(Library, TakesTheLayersOfNetworks) {
  if (!kernels::built().onednn) {
    ContextScope scope;
    scope->engine = Engine::library;
    EXPECT_ERROR(ops::softmax(Tensor::zeros({2, 3})), "-DGRAFT_WITH_ONEDNN=ON");
    GTEST_SKIP() << "built without oneDNN";
  }
  using ops::Conv2d, ops::DepthwiseConv2d;
  const ops::Conv2dOptions same{.padding = kSame};
  const ops::BatchNormOptions batch{.statistics = ops::Statistics::batch};
  const std::vector<LibraryCase> cases{
      {"first layer",
       std::make_shared<Conv2d>(ops::Conv2dOptions{.stride = 2, .padding = pad(3)}, false, false),
       {{1, 14, 14, 3}, {16, 7, 7, 3}}},
      {"3x3", std::make_shared<Conv2d>(same, false, false), {{2, 14, 14, 32}, {64, 3, 3, 32}}},
      {"1x1 with residual",
       std::make_shared<Conv2d>(same, false, true),
       {{2, 7, 7, 64}, {32, 1, 1, 64}, {2, 7, 7, 32}}},
      {"1x7", std::make_shared<Conv2d>(same, false, false), {{1, 14, 14, 16}, {16, 1, 7, 16}}},
      {"depthwise",
       std::make_shared<DepthwiseConv2d>(ops::DepthwiseConv2dOptions{.padding = kSame}, false),
       {{2, 14, 14, 32}, {3, 3, 32}}},
      {"depthwise, stride 2",
       std::make_shared<DepthwiseConv2d>(ops::DepthwiseConv2dOptions{.stride = 2, .padding = {.bottom = 1, .right = 1}},
                                         false),
       {{2, 14, 14, 32}, {3, 3, 32}}},
      {"linear", std::make_shared<ops::Linear>(Activation::linear, false), {{4, 64}, {10, 64}}},
      {"matmul", std::make_shared<ops::Matmul>(), {{2, 5, 16}, {2, 16, 7}}},
      {"max pool",
       std::make_shared<ops::MaxPool>(Window{.kernel = 3, .stride = 2, .padding = pad(1)}),
       {{2, 14, 14, 16}}},
      {"average pool", std::make_shared<ops::AveragePool>(Window{.kernel = 3, .padding = kSame}), {{2, 8, 8, 16}}},
      {"batch norm",
       std::make_shared<ops::BatchNorm>(batch, true, true, false),
       {{2, 8, 8, 16}, {16}, {16}, {16}, {16}}},
      {"softmax", std::make_shared<ops::Softmax>(false), {{4, 1000}}},
  };
  for (const LibraryCase& c : cases) {
    ContextScope scope;
    scope->engine = Engine::library;
    std::vector<Tensor> inputs, outputs;
    std::vector<Spec> specs;
    inputs.reserve(c.inputs.size());
    specs.reserve(c.inputs.size());
    for (const Shape& shape : c.inputs) inputs.push_back(Tensor::full(shape, 0.5));
    for (const Tensor& input : inputs) specs.push_back(input.spec());
    for (const Spec& spec : c.op->infer(specs)) outputs.push_back(Tensor::empty(spec.shape, spec.dtype));
    EXPECT_NO_THROW(c.op->forward(Context::current(), operands(inputs), operands(outputs))) << c.what;
#if defined(__x86_64__)
    // oneDNN has no backward of a softmax for less than AVX-512 but its plain loops, which are not asked for.
    if (c.what == "softmax" && !__builtin_cpu_supports("avx512f")) continue;
#endif
    for (std::size_t i = 0; i < std::min<std::size_t>(inputs.size(), 2); ++i) {
      std::vector<Gradient> dx(inputs.size());
      const Tensor to = Tensor::empty(inputs[i].shape());
      dx[i] = {to, false};
      EXPECT_NO_THROW(
          c.op->backward(Context::current(), {operands(inputs), operands(outputs)}, operands({outputs[0]}), dx))
          << c.what << ", gradient of input " << i;
      if (c.op->updates().any()) break;  // batch norm's library kernel gives gamma's gradient with x's
    }
  }
}

// A Plan may let a convolution write over its residual.
TEST(Library, TheResidualMayBeTheResult) {
  const Tensor x = Tensor::full({1, 7, 7, 64}, 0.5), w = Tensor::full({32, 1, 1, 64}, 0.25),
               y = Tensor::full({1, 7, 7, 32}, 3);
  const ops::Conv2d op({}, false, true);
  op.forward(Context::current(), operands({x, w, y}), operands({y}));
  EXPECT_THAT(y.values<float>(), testing::Each(64 * 0.5f * 0.25f + 3));
}

// oneDNN 2.6 reads scratch memory that it never wrote, on bf16 images that are narrower than the stride: where memory
// was in use before, the gradient of weights that see nothing but padding would not be zero. A thread of its own has
// scratch memory of its own, made of what is freed here.
TEST(Library, TakesNoGradientThatReadsUnwrittenMemory) {
  for (const auto& [size, stride] : {std::pair<Index, Index>{1, 2}, {2, 3}}) {
    std::thread([size = size, stride = stride] {
      {
        std::vector<Tensor> used;
        for (Index count = 16; count < 6000; count = count * 3 / 2) used.push_back(Tensor::full({count}, 7));
      }
      const ops::Conv2d op({.stride = stride, .padding = pad(1)}, false, false);
      const Tensor x = Tensor::full({3, size, size, 16}, 1, DType::bf16), w = Tensor::full({16, 3, 3, 16}, 1),
                   y = Tensor::full({3, 1, 1, 16}, 1, DType::bf16), dw = Tensor::full(w.shape(), 9);
      op.backward(Context::current(), {operands({x, w}), operands({y})}, operands({y}),
                  std::vector<Gradient>{{}, {dw, false}});
      for (Index tap = 0; tap < 9; ++tap) {  // of the first filter and channel; the window begins one pixel outside
        const bool inside = tap / 3 >= 1 && tap / 3 <= size && tap % 3 >= 1 && tap % 3 <= size;
        EXPECT_EQ(dw.data<float>()[tap * 16], inside ? 3 : 0) << "size " << size << ", tap " << tap;
      }
    }).join();
  }
}

// One Predictor serves many threads: they share primitives, each with scratch memory of its own.
TEST(Library, ServesManyThreadsAtOnce) {
  Tensor x = Tensor::empty({1, 14, 14, 32}), w = Tensor::empty({32, 3, 3, 32});
  Generator generator{.seed = 1};
  for (Tensor* tensor : {&x, &w}) {
    for (Index i = 0; i < tensor->elements(); ++i)
      tensor->mutable_data<float>()[i] = static_cast<float>(generator.normal());
  }
  const auto once = [&] { return ops::conv2d(x, w, {.padding = kSame, .activation = Activation::relu}); };
  const Tensor alone = once();
  const std::vector<float> want(alone.values<float>().begin(), alone.values<float>().end());
  std::vector<std::thread> threads;
  std::vector<int> different(4);
  threads.reserve(different.size());
  for (int& count : different) {
    threads.emplace_back([&] {
      for (int run = 0; run < 20; ++run) {
        const Tensor y = once();
        count += std::vector<float>(y.values<float>().begin(), y.values<float>().end()) != want;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(different, std::vector<int>(4));
}

}  // namespace
}  // namespace graft
