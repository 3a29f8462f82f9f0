// The ops that networks spend their time in, on shapes of VGG16, ResNet50, MobileNet and InceptionV3, each engine
// beside the others:
//   ops_benchmark --benchmark_filter='conv2d/.*/b16/f32/forward'
// A name is op / layer / batch / type / pass / engine. Counters: FLOP/s as the op counts them, and bytes/s of its
// operands, each moved once.
#include <functional>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "graft/core/error.h"
#include "graft/ops/batch_norm.h"
#include "graft/ops/conv2d.h"
#include "graft/ops/depthwise_conv2d.h"
#include "graft/ops/global_pool.h"
#include "graft/ops/linear.h"
#include "graft/ops/pool.h"

namespace graft {
namespace {

using Tensors = std::vector<Tensor>;

Tensor random(const Shape& shape, DType dtype, std::uint64_t seed) {
  Tensor tensor = Tensor::empty(shape);
  Generator generator{.seed = seed};
  for (Index i = 0; i < tensor.elements(); ++i)
    tensor.mutable_data<float>()[i] = static_cast<float>(generator.normal());
  return tensor.to(dtype);
}

// An op at a layer: what it needs is made when the benchmark runs.
struct Layer {
  std::string name;
  std::function<std::shared_ptr<const Op>(bool fused)>
      op;  // with its activation, or without: that has a kernel of its own in backward
  std::function<std::vector<Spec>(Index batch, DType dtype)> inputs;
  std::vector<int> gradients;  // of which inputs a backward is timed, each by itself
};

std::vector<Operand> operands(const Tensors& tensors) { return {tensors.begin(), tensors.end()}; }

double bytes(const std::vector<Spec>& specs) {
  double total = 0;
  for (const Spec& spec : specs)
    total += static_cast<double>(spec.shape.elements()) * static_cast<double>(size_of(spec.dtype));
  return total;
}

// Times forward (gradient < 0) or the backward that gives one input's gradient.
void run(benchmark::State& state, const Layer& layer, Index batch, DType dtype, int gradient, Engine engine) {
  const auto op = layer.op(gradient < 0);
  const std::vector<Spec> input_specs = layer.inputs(batch, dtype);
  const std::vector<Spec> output_specs = op->infer(input_specs);
  Tensors inputs, outputs, dy, to;
  for (std::size_t i = 0; i < input_specs.size(); ++i)
    inputs.push_back(random(input_specs[i].shape, input_specs[i].dtype, i));
  for (Tensor& input : inputs) {
    if (op->updates().any() && input.shape().rank() == 1) input.fill(1);  // moving statistics
  }
  for (const Spec& spec : output_specs) outputs.push_back(Tensor::empty(spec.shape, spec.dtype));
  ContextScope scope;
  op->forward(Context::current(), operands(inputs), operands(outputs));
  dy.push_back(random(output_specs[0].shape, output_specs[0].dtype, 99));
  std::vector<Gradient> dx(inputs.size());
  if (gradient >= 0) {
    to.push_back(Tensor::empty(inputs[static_cast<std::size_t>(gradient)].shape(),
                               inputs[static_cast<std::size_t>(gradient)].dtype()));
    dx[static_cast<std::size_t>(gradient)] = {to.back(), false};
  }
  scope->engine = engine;
  const auto once = [&] {
    if (gradient < 0)
      op->forward(Context::current(), operands(inputs), operands(outputs));
    else
      op->backward(Context::current(), {operands(inputs), operands(outputs)}, operands(dy), dx);
  };
  try {
    once();
  } catch (const Error& error) {
    state.SkipWithError(error.what());
    return;
  }
  for (auto _ : state) once();
  const double runs = static_cast<double>(state.iterations());
  state.counters["FLOP"] =
      benchmark::Counter(runs * op->operations(input_specs, output_specs), benchmark::Counter::kIsRate);
  state.counters["byte"] =
      benchmark::Counter(runs * (bytes(input_specs) + bytes({output_specs[0]})), benchmark::Counter::kIsRate);
}

Layer conv(const std::string& name, Index size, Index in, Index out, Extent kernel, Index stride = 1,
           bool residual = false) {
  ops::Conv2dOptions options{.stride = stride, .padding = kSame};
  const Index result = (size + stride - 1) / stride;
  return {"conv2d/" + name,
          [=](bool fused) mutable {
            options.activation = fused ? Activation::relu : Activation::linear;
            return std::make_shared<ops::Conv2d>(options, true, residual);
          },
          [=](Index n, DType t) {
            std::vector<Spec> specs{
                {{n, size, size, in}, t}, {{out, kernel.height, kernel.width, in}, DType::f32}, {{out}, DType::f32}};
            if (residual) specs.push_back({{n, result, result, out}, t});
            return specs;
          },
          {0, 1}};
}

Layer depthwise(const std::string& name, Index size, Index channels, Index stride) {
  ops::DepthwiseConv2dOptions options{.stride = stride, .padding = kSame};
  return {"depthwise/" + name,
          [=](bool fused) mutable {
            options.activation = fused ? Activation::relu6 : Activation::linear;
            return std::make_shared<ops::DepthwiseConv2d>(options, true);
          },
          [=](Index n, DType t) {
            return std::vector<Spec>{
                {{n, size, size, channels}, t}, {{3, 3, channels}, DType::f32}, {{channels}, DType::f32}};
          },
          {0, 1}};
}

Layer norm(const std::string& name, Index size, Index channels, ops::Statistics statistics) {
  ops::BatchNormOptions options{.statistics = statistics};
  return {"batch_norm/" + name,
          [=](bool fused) mutable {
            options.activation = fused ? Activation::relu : Activation::linear;
            return std::make_shared<ops::BatchNorm>(options, true, true, false);
          },
          [=](Index n, DType t) {
            const Spec channel{{channels}, DType::f32};
            return std::vector<Spec>{{{n, size, size, channels}, t}, channel, channel, channel, channel};
          },
          {0}};
}

Layer dense(const std::string& name, Index rows_an_image, Index in, Index out) {
  return {"linear/" + name,
          [](bool fused) { return std::make_shared<ops::Linear>(fused ? Activation::relu : Activation::linear, true); },
          [=](Index n, DType t) {
            return std::vector<Spec>{{{n * rows_an_image, in}, t}, {{out, in}, DType::f32}, {{out}, DType::f32}};
          },
          {0, 1}};
}

template <class PoolOp>
Layer pool(const std::string& name, Index size, Index channels, const Window& window) {
  return {name,
          [=](bool) { return std::make_shared<PoolOp>(window); },
          [=](Index n, DType t) {
            return std::vector<Spec>{{{n, size, size, channels}, t}};
          },
          {0}};
}

template <class PoolOp>
Layer global(const std::string& name, Index size, Index channels) {
  return {name,
          [](bool) { return std::make_shared<PoolOp>(); },
          [=](Index n, DType t) {
            return std::vector<Spec>{{{n, size, size, channels}, t}};
          },
          {0}};
}

std::vector<Layer> layers() {
  return {
      conv("vgg16_block1_conv1", 224, 3, 64, 3),
      conv("vgg16_block1_conv2", 224, 64, 64, 3),
      conv("vgg16_block3_conv2", 56, 256, 256, 3),
      conv("vgg16_block5_conv1", 14, 512, 512, 3),
      conv("resnet50_conv1", 224, 3, 64, 7, 2),
      conv("resnet50_conv2_1x1", 56, 64, 256, 1, 1, true),
      conv("resnet50_conv3_1x1_stride2", 56, 256, 512, 1, 2),
      conv("resnet50_conv4_3x3", 14, 256, 256, 3),
      conv("resnet50_conv5_1x1", 7, 512, 2048, 1, 1, true),
      conv("inception_1x7", 17, 128, 128, {1, 7}),
      conv("inception_mixed10_3x1", 8, 384, 384, {3, 1}),
      conv("mobilenet_pw_1", 112, 32, 64, 1),
      conv("mobilenet_pw_13", 7, 1024, 1024, 1),
      depthwise("mobilenet_dw_1", 112, 32, 1),
      depthwise("mobilenet_dw_2", 112, 64, 2),
      depthwise("mobilenet_dw_7", 14, 512, 1),
      depthwise("mobilenet_dw_13", 7, 1024, 1),
      dense("vgg16_fc1", 1, 25088, 4096),
      dense("resnet50_predictions", 1, 2048, 1000),
      dense("vit_base_mlp", 197, 768, 3072),
      norm("moving_56x256", 56, 256, ops::Statistics::moving),
      norm("batch_56x256", 56, 256, ops::Statistics::batch),
      norm("batch_14x512", 14, 512, ops::Statistics::batch),
      pool<ops::MaxPool>("max_pool/vgg16_block1", 224, 64, {.kernel = 2, .stride = 2}),
      pool<ops::MaxPool>("max_pool/resnet50_pool1", 112, 64, {.kernel = 3, .stride = 2, .padding = pad(1)}),
      pool<ops::AveragePool>("average_pool/inception_mixed0", 35, 192, {.kernel = 3, .padding = kSame}),
      global<ops::GlobalAveragePool>("global_average_pool/resnet50", 7, 2048),
  };
}

void register_all() {
  for (const Layer& layer : layers()) {
    for (const Index batch : {1, 16}) {
      for (const DType dtype : {DType::f32, DType::bf16}) {
        std::vector<int> passes{-1};
        passes.insert(passes.end(), layer.gradients.begin(), layer.gradients.end());
        for (const int gradient : passes) {
          for (const Engine engine : {Engine::native, Engine::library}) {
            const std::string pass = gradient < 0 ? "forward" : fmt::format("d{}", gradient == 0 ? "x" : "w");
            const std::string name =
                fmt::format("{}/b{}/{}/{}/{}", layer.name, batch, graft::name(dtype), pass, graft::name(engine));
            benchmark::RegisterBenchmark(
                name.c_str(), [=](benchmark::State& state) { run(state, layer, batch, dtype, gradient, engine); })
                ->Unit(benchmark::kMicrosecond)
                ->UseRealTime()
                ->MeasureProcessCPUTime();
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace graft

int main(int argc, char** argv) {
  graft::register_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
