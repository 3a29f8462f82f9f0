#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graft/models/models.h"
#include "graft/ops/ops.h"

#include "core/format.h"
#include "kernels/registry.h"
#include "library/frontend.h"
#include "library/graphs.h"
#include "library/operands.h"

// What cuDNN makes of the calls of whole networks on an H100 that is only described to it: every graph is valid, and
// its heuristics propose engines. Which numbers the engines compute only a GPU can say.
namespace graft::cudnn {
namespace {

// What cuDNN 9.19 wants to know of a GPU: the numbers of an H100 SXM5, from NVIDIA's data sheet and CUDA's tables of
// compute capability 9.0.
constexpr const char* kH100 = R"({
  "deviceName": "NVIDIA H100 80GB HBM3", "deviceVer": 900, "driverVer": 13000, "cudaDeviceId": 0, "pciDeviceId": 0,
  "multiProcessorCount": 132, "warpSize": 32, "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "maxCtasPerSM": 32,
  "maxBlockSize": [1024, 1024, 64], "maxGridSize": [2147483647, 65535, 65535], "regsPerBlock": 65536,
  "maxRegistersPerSM": 65536, "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448,
  "reservedSharedMemoryPerBlock": 1024, "totalGlobalMem": 85017624576, "l2CacheSize": 52428800,
  "smClockRateKHz": 1980000, "memClockRateKHz": 2619000, "isTccDriver": 0, "supportCoopLaunch": 1})";

const Target kDescribed{.properties = kH100, .architecture = 90};

struct Precision {
  DType dtype;
  bool tf32;
  std::string name;
};
const std::vector<Precision> kPrecisions{
    {DType::f32, false, "f32"}, {DType::f32, true, "tf32"}, {DType::bf16, false, "bf16"}, {DType::f16, false, "f16"}};

// Graphs by what they compute, each once.
using Graphs = std::map<std::string, std::set<OperationGraph>>;

class Collector {
 public:
  Collector(Graphs& graphs, const Precision& precision) : graphs_(graphs) {
    context_.device = {Device::Kind::cuda, 0};
    context_.allow_tf32 = precision.tf32;
    suffix_ = " " + precision.name;
  }

  void visit(const nn::Program& program, const nn::Program::Call& call) {
    std::vector<Operand> in, out;
    for (const nn::Value value : call.inputs) in.push_back(operand(program[value].spec));
    for (const nn::Value value : call.outputs) out.push_back(operand(program[value].spec));
    const Op* op = call.op.get();
    if (const auto* conv = dynamic_cast<const ops::Conv2d*>(op))
      convolution(geometry(*conv, in), in, out, conv->has_bias, conv->options.activation);
    else if (const auto* depthwise = dynamic_cast<const ops::DepthwiseConv2d*>(op))
      convolution(geometry(*depthwise, in), in, out, depthwise->has_bias, depthwise->options.activation);
    else if (const auto* norm = dynamic_cast<const ops::BatchNorm*>(op))
      batch_norm(*norm, in, out[0]);
    else if (const auto* layer = dynamic_cast<const ops::LayerNorm*>(op))
      layer_norm(*layer, in, out[0]);
    else if (const auto* attend = dynamic_cast<const ops::Attention*>(op))
      attention(*attend, in, out[0]);
  }

 private:
  static Operand operand(const Spec& spec) { return {nullptr, spec.shape, spec.dtype}; }
  // One that counts as being there: an address that nobody reads.
  static Operand present(const Shape& shape, DType type) { return {reinterpret_cast<void*>(0x1000), shape, type}; }

  void keep(const std::string& what, const std::optional<OperationGraph>& graph) {
    if (graph) graphs_[what + suffix_].insert(*graph);
  }

  static Convolution geometry(const ops::Conv2d& op, const std::vector<Operand>& in) {
    const Shape& w = in[1].shape;
    const ops::Conv2dOptions& o = op.options;
    return ConvGeometry{lay("", {{w[1], w[2]}, o.stride, o.dilation, o.padding}, in[0].shape), w[0], o.groups};
  }
  static Convolution geometry(const ops::DepthwiseConv2d& op, const std::vector<Operand>& in) {
    const Shape& w = in[1].shape;
    const ops::DepthwiseConv2dOptions& o = op.options;
    return DepthwiseGeometry{lay("", {{w[0], w[1]}, o.stride, o.dilation, o.padding}, in[0].shape),
                             w[2] / in[0].shape[3]};
  }

  // As the layer has it, as a Plan for inference makes it of the layers after it, and its gradients.
  void convolution(const Convolution& c, const std::vector<Operand>& in, const std::vector<Operand>& out, bool has_bias,
                   Activation activation) {
    const Operand &x = in[0], &w = in[1], &y = out[0];
    const std::string what = c.depthwise ? "depthwise" : "convolution";
    const Operand bias = present({c.geometry.out_channels}, DType::f32), residual = present(y.shape, y.dtype);
    keep(what, convolution_graph(context_, c, x, w, {}, {}, Activation::linear, y));
    if (has_bias || activation != Activation::linear)
      keep(what + " fused", convolution_graph(context_, c, x, w, has_bias ? bias : Operand{}, {}, activation, y));
    keep(what + " fused", convolution_graph(context_, c, x, w, bias, {}, Activation::relu, y));
    if (!c.depthwise)
      keep(what + " fused with residual", convolution_graph(context_, c, x, w, bias, residual, Activation::relu, y));
    const Gradient dx{present(x.shape, x.dtype), false}, dw{present(w.shape, DType::f32), false};
    keep(what + " backward_input", convolution_backward_input_graph(context_, c, y, w, dx));
    keep(what + " backward_weight", convolution_backward_weight_graph(context_, c, x, y, dw));
  }

  void batch_norm(const ops::BatchNorm& op, const std::vector<Operand>& in, const Operand& y) {
    const Operand x = present(y.shape, y.dtype), channel = present({y.shape.channels()}, DType::f32);
    const Operand gamma = op.has_scale ? channel : Operand{}, beta = op.has_center ? channel : Operand{};
    const ChannelStatistics statistics{channel, channel};
    BatchNormAttributes plain{.epsilon = op.options.epsilon}, relu = plain;
    relu.activation = Activation::relu;
    keep("batch_norm", batch_norm_graph(plain, x, gamma, beta, {}, y, statistics));
    keep("batch_norm fused", batch_norm_graph(relu, x, gamma, beta, {}, y, statistics));
    keep("batch_norm fused with residual", batch_norm_graph(relu, x, gamma, beta, x, y, statistics));
    keep("batch_norm_moving", batch_norm_moving_graph(plain, x, gamma, beta, {}, statistics, y));
    keep("batch_norm_moving fused with residual", batch_norm_moving_graph(relu, x, gamma, beta, x, statistics, y));
    const Gradient to{channel, false};
    keep("batch_norm_backward", batch_norm_backward_graph(x, gamma, statistics, in[0], {{x, false}, to, to}));
  }

  void layer_norm(const ops::LayerNorm& op, const std::vector<Operand>& in, const Operand& y) {
    const Operand x = present(y.shape, y.dtype), channel = present({y.shape.channels()}, DType::f32),
                  row = present({y.shape.rows()}, DType::f32);
    keep("layer_norm", layer_norm_graph(op.epsilon, x, channel, channel, in[0], row, row));
  }

  void attention(const ops::Attention& op, const std::vector<Operand>& in, const Operand& y) {
    Operand part = present(y.shape, y.dtype);
    part.pitch = in[0].shape.channels();  // of q, k and v side by side
    const Operand whole = present(y.shape, y.dtype),
                  sums = present({y.shape[0], op.options.heads, y.shape[1]}, DType::f32);
    const Gradient to{part, false};
    keep("attention", attention_graph(op.options.heads, 0.125, part, part, part, whole, sums));
    keep("attention_backward",
         attention_backward_graph(op.options.heads, 0.125, part, part, part, whole, sums, whole, to, to, to));
  }

  Context context_;
  Graphs& graphs_;
  std::string suffix_;
};

Graphs graphs_of_models() {
  Graphs graphs;
  for (const char* name : {"vgg16", "resnet50", "mobilenet", "inception_v3", "vit_base"}) {
    const Index size = std::string_view(name) == "inception_v3" ? 299 : 224;
    const nn::Network network = models::make(name);
    for (const Precision& precision : kPrecisions) {
      const nn::Program program = network.lower({8, size, size, 3}, {.training = true, .dtype = precision.dtype});
      Collector collector(graphs, precision);
      for (const nn::Program::Call& call : program.calls) collector.visit(program, call);
    }
  }
  return graphs;
}

// How many graphs of a kind have no engine, where there are such: what the kernel contract then leaves to graft.
// Halves have none for the weight gradient in f32 of images of 3 channels (the first layers) and of depthwise
// convolutions, and bf16 has no fusion with those nor with ViT's 16x16 patches.
const std::map<std::string, std::size_t> kWithoutEngine{{"convolution backward_weight bf16", 5},
                                                        {"convolution fused bf16", 2},
                                                        {"convolution fused with residual bf16", 1},
                                                        {"depthwise backward_weight bf16", 9},
                                                        {"depthwise fused bf16", 9}};

// f16 is compiled like bf16, and what is no product has no TF32: of those it is enough that the graph is valid. So it
// is of most inference batch norms, for which cuDNN generates a program before it answers.
bool asks_for_engines(const std::string& what) {
  if (what.starts_with("batch_norm_moving")) return what == "batch_norm_moving fused with residual bf16";
  const bool twice =
      what.ends_with(" tf32") && what.find("conv") == std::string::npos && !what.starts_with("depthwise");
  return !what.ends_with(" f16") && !twice;
}

TEST(LibraryGraphs, OfTheModelsHaveEnginesOnAnH100) {
  std::set<std::string> kinds;
  for (const auto& [what, graphs] : graphs_of_models()) {
    kinds.insert(what.substr(0, what.rfind(' ')));
    std::vector<std::string> without;
    for (const OperationGraph& graph : graphs) {
      const Compiled compiled(graph,
                              asks_for_engines(what) ? kDescribed : Target{.properties = {}, .architecture = 90});
      EXPECT_NE(compiled.stage(), Compiled::Stage::refused) << graph.describe() << "\n" << compiled.why();
      if (asks_for_engines(what) && compiled.engines() == 0)
        without.push_back(graph.describe() + ": " + compiled.why().substr(0, 400));
    }
    const auto expected = kWithoutEngine.find(what);
    EXPECT_EQ(without.size(), expected == kWithoutEngine.end() ? 0 : expected->second)
        << what << ", of " << graphs.size() << ": " << fmt::format("{}", fmt::join(without, "\n"));
  }
  EXPECT_EQ(kinds,
            (std::set<std::string>{"attention", "attention_backward", "batch_norm", "batch_norm fused",
                                   "batch_norm fused with residual", "batch_norm_backward", "batch_norm_moving",
                                   "batch_norm_moving fused with residual", "convolution", "convolution backward_input",
                                   "convolution backward_weight", "convolution fused",
                                   "convolution fused with residual", "depthwise", "depthwise backward_input",
                                   "depthwise backward_weight", "depthwise fused", "layer_norm"}));
}

Operand operand_of(const Shape& shape, DType type) { return {nullptr, shape, type}; }

ConvGeometry three_by_three() { return {lay("", {.kernel = 3, .padding = pad(1)}, {8, 56, 56, 64}), 128, 1}; }

OperationGraph three_by_three_graph(const Context& context, DType type) {
  return *convolution_graph(context, three_by_three(), operand_of({8, 56, 56, 64}, type),
                            operand_of({128, 3, 3, 64}, type), {}, {}, Activation::linear,
                            operand_of({8, 56, 56, 128}, type));
}

// Engines of plain convolutions lie compiled in cuDNN: they are made ready without a GPU, unless what they compute is
// not what the Context allows.
TEST(LibraryGraphs, EnginesThatRoundToTf32AreLeftOutUnlessAllowed) {
  Context context;
  const auto usable = [&] {
    Compiled compiled(three_by_three_graph(context, DType::f32), kDescribed);
    std::set<std::string> names;
    for (int engine = 0; engine < compiled.engines(); ++engine)
      if (compiled.build(engine)) names.insert(compiled.name(engine));
    return names;
  };
  const std::set<std::string> exact = usable();
  context.allow_tf32 = true;
  const std::set<std::string> all = usable();
  EXPECT_GT(exact.size(), 0u);
  EXPECT_GT(all.size(), exact.size());
  EXPECT_TRUE(std::includes(all.begin(), all.end(), exact.begin(), exact.end()));
}

TEST(LibraryGraphs, AGraphThatMakesNoSenseIsRefusedWithAReason) {
  OperationGraph graph = three_by_three_graph({}, DType::bf16);
  graph.values[1].extents[1] = 63;  // weights for 63 of 64 channels
  const Compiled compiled(graph, kDescribed);
  EXPECT_EQ(compiled.engines(), 0);
  EXPECT_NE(compiled.why(), "");
}

TEST(LibraryGraphs, ThereAreNoneOfF64) {
  const Operand x = operand_of({8, 56, 56, 64}, DType::f64);
  EXPECT_FALSE(convolution_graph({}, three_by_three(), x, operand_of({128, 3, 3, 64}, DType::f64), {}, {},
                                 Activation::linear, operand_of({8, 56, 56, 128}, DType::f64)));
}

// cuBLASLt is loaded by the first call that needs it, and every function that graft calls is looked up then: neither
// takes a GPU. Were it to fail, the answer would be the reason.
TEST(LibraryProducts, CublasIsLoadedWithAllItsFunctions) {
  EXPECT_THAT(kernels::cublas_version(), testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
}

// The halves that an optimizer writes beside f32 weights: those are read, and no others made.
TEST(LibraryOperands, RoundedWeightsAreThoseThatAreKept) {
  Context context;
  context.device = {Device::Kind::cuda, 0};
  const Tensor w = Tensor::full({8, 4}, 0.5), half = w.to(DType::bf16);  // on the CPU: nobody reads them
  w.storage()->keep_rounded(half.storage(), DType::bf16);
  const library::Rounded rounded(context, w, DType::bf16);
  EXPECT_EQ((*rounded).data, half.raw());
  EXPECT_EQ((*rounded).dtype, DType::bf16);
  EXPECT_EQ((*rounded).shape, w.shape());
}

}  // namespace
}  // namespace graft::cudnn
