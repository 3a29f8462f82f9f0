// Real Keras against graft: the four models of the zoo, random weights, every layout that Keras can write.
#include <fstream>
#include <map>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "graft/autograd/backward.h"
#include "graft/io/convert.h"
#include "graft/ops/loss.h"
#include "graft/optim/optimizer.h"

#include "core/format.h"
#include "io/convert.h"
#include "oracle/oracle.h"

namespace graft {
namespace {

constexpr double kForwardTolerance = 1e-4;   // f32
constexpr double kGradientTolerance = 1e-6;  // f64
constexpr double kLossTolerance = 1e-5;      // f64, over all steps
constexpr Index kClasses = 10;               // as keras_oracle.py has it

struct Case {
  std::string oracle;  // the model's name in keras_oracle.py
  std::string model;   // and in graft
  double alpha = 1;

  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.oracle; }
};

class KerasParity : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!oracle::available())
      GTEST_SKIP() << "set GRAFT_ORACLE_PYTHON to a Python with keras, torch and h5py to compare with Keras";
    if (!GRAFT_HAS_HDF5) GTEST_SKIP() << "built without HDF5, which Keras's files are in";
    folder_ = oracle::results("keras_oracle.py", GetParam().oracle);
  }

  io::Safetensors tensors(const std::string& name) const { return io::read_safetensors(folder_ / name); }

  // The file as graft's own model; its input is of the size that the oracle used.
  nn::Network as_model(const std::string& file, const Shape& images) const {
    nn::Network network = io::convert(folder_ / file, {.model = GetParam().model, .input_size = images[1]}).network;
    network.set_input_shape({images[1], images[2], images[3]});
    return network;
  }

  std::filesystem::path folder_;
};

TEST_P(KerasParity, LayersAreKerasOwnInNameOrderShapeAndParameters) {
  const nlohmann::json keras = nlohmann::json::parse(std::ifstream(folder_ / "layers.json"));
  const Shape images = tensors("forward.safetensors").at("input").shape();
  const nn::Network network = models::make(
      GetParam().model, {.classes = kClasses, .height = images[1], .width = images[2], .alpha = GetParam().alpha});

  const nn::Program program = network.lower({1, images[1], images[2], images[3]});
  const std::vector<std::string> order = io::keras_order(network);
  ASSERT_EQ(order.size(), keras.at("layers").size());
  Index parameters = 0, trainable = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const nlohmann::json& layer = keras.at("layers")[i];
    EXPECT_EQ(order[i], layer.at("name")) << "layer " << i;
    std::vector<Index> extents{1};
    for (const auto& extent : layer.at("shape")) extents.push_back(extent);
    EXPECT_EQ(program[program.node(order[i])].spec.shape, Shape{std::span<const Index>(extents)}) << order[i];
    Index count = 0;
    const auto& names = network.layer(order[i]).parameters;
    for (const std::string& name : names) {
      const nn::Parameter& parameter = *network.parameter_table().at(name);
      count += parameter.shape.elements();
      if (!parameter.is_statistic) trainable += parameter.shape.elements();
    }
    EXPECT_EQ(count, layer.at("parameters")) << order[i];
    EXPECT_EQ(names.size(), layer.at("tensors")) << order[i];
    parameters += count;
  }
  EXPECT_EQ(parameters, keras.at("parameters"));
  EXPECT_EQ(trainable, keras.at("trainable"));
}

TEST_P(KerasParity, EveryLayoutGivesKerasOutputsAtEveryLayer) {
  const io::Safetensors expected = tensors("forward.safetensors");
  const Shape images = expected.at("input").shape();
  const auto compare = [&](nn::Network network, const std::string& what, Engine engine) {
    const oracle::Difference difference = oracle::compare_forward(network, expected, engine);
    EXPECT_EQ(static_cast<std::size_t>(difference.compared), expected.tensors.size() - 1) << what;
    EXPECT_LE(difference.error, kForwardTolerance) << what << ": " << difference.where;
    fmt::print("  {}: {} layers, worst {:.1e} at {}\n", what, difference.compared, difference.error, difference.where);
  };
  for (const std::string file :
       {"legacy_model.h5", "legacy_weights.h5", "v3.weights.h5", "nameless.weights.h5", "model.keras"}) {
    compare(as_model(file, images), file + " as " + GetParam().model, Engine::automatic);
  }
  for (const std::string file : {"legacy_model.h5", "model.keras"}) {
    const nn::Network network = io::convert(folder_ / file).network;
    compare(network, file + " from its architecture", Engine::automatic);
    // Where a head is grafted: of photos this small the last images may be single pixels.
    const std::map<std::string, std::string> last_images{{"vgg16", "block5_pool"},
                                                         {"resnet50", "conv5_block3_out"},
                                                         {"mobilenet", "conv_pw_13_relu"},
                                                         {"inception_v3", "mixed10"}};
    EXPECT_EQ(network.features, last_images.at(GetParam().model)) << file;
  }
  compare(as_model("model.keras", images), "native kernels", Engine::native);
}

TEST_P(KerasParity, SwappedLayersOfTheSameShapeAreFound) {
  const io::Safetensors expected = tensors("forward.safetensors");
  nn::Network network = as_model("model.keras", expected.at("input").shape());
  const auto [first, second] = oracle::swap_alike(network);
  const oracle::Difference difference = oracle::compare_forward(network, expected, Engine::automatic);
  EXPECT_GT(difference.error, 100 * kForwardTolerance) << first << " and " << second << " are swapped";
}

TEST_P(KerasParity, GradientsAndTrainingStepsInDoublePrecision) {
  const io::Safetensors expected = tensors("training.safetensors");
  // From the architecture, where dropout is off: no two frameworks draw the same.
  nn::Network network = io::convert(folder_ / "model.keras").network;
  network.set_parameter_dtype(DType::f64);
  const Tensor images = expected.at("input"), labels = expected.at("labels"), losses = expected.at("losses");
  const auto loss = [&] { return ops::softmax_cross_entropy(network.run(images, {.training = true}).logits, labels); };

  std::vector<optim::NamedTensor> parameters;
  for (const nn::Parameter* parameter : network.trainable_parameters())
    parameters.push_back({parameter->name, parameter->value});
  optim::Optimizer optimizer({.algorithm = optim::Algorithm::sgd, .learning_rate = expected.at("rate").item()},
                             {{.parameters = parameters}});
  oracle::Difference steps;
  for (Index step = 0; step < losses.elements(); ++step) {
    optimizer.zero_grad();
    const Tensor value = loss();
    steps.add(fmt::format("step {}", step), std::abs(value.item() / losses.data<double>()[step] - 1));
    autograd::backward(value);
    if (step == 0) {
      double largest = 0;
      for (const auto& [name, gradient] : expected.tensors) {
        if (name.starts_with("gradient/")) largest = std::max(largest, oracle::norm(gradient));
      }
      oracle::Difference gradients;
      for (const auto& [name, tensor] : parameters) {
        const Tensor& keras = expected.at("gradient/" + name);
        // A gradient that is zero but for rounding, such as that of a bias before a batch-norm, is held to the scale of
        // the others.
        const double own = oracle::norm(keras), scale = std::max(own, 1e-6 * largest);
        gradients.add(name, oracle::relative_error(tensor.grad(), keras) * own / scale);
      }
      EXPECT_LE(gradients.error, kGradientTolerance) << gradients.where;
      fmt::print("  {} gradients, worst {:.1e} at {}\n", gradients.compared, gradients.error, gradients.where);
    }
    optimizer.step();
  }
  EXPECT_LE(steps.error, kLossTolerance) << steps.where;
  fmt::print("  {} losses from {:.3f} to {:.3f}, worst {:.1e} at {}\n", steps.compared, losses.data<double>()[0],
             losses.data<double>()[losses.elements() - 1], steps.error, steps.where);
}

TEST_P(KerasParity, FullSizeImage) {
  const io::Safetensors expected = tensors("full.safetensors");
  const std::string file = std::filesystem::exists(folder_ / "full.weights.h5") ? "full.weights.h5" : "v3.weights.h5";
  nn::Network network = as_model(file, expected.at("input").shape());
  const Tensor output = network.run(expected.at("input")).output;
  EXPECT_LE(oracle::relative_error(output, expected.at("output")), kForwardTolerance);
}

INSTANTIATE_TEST_SUITE_P(Models, KerasParity,
                         testing::Values(Case{"vgg16", "vgg16"}, Case{"resnet50", "resnet50"},
                                         Case{"mobilenet", "mobilenet"}, Case{"mobilenet_half", "mobilenet", 0.5},
                                         Case{"inception_v3", "inception_v3"}),
                         [](const auto& test) { return test.param.oracle; });

}  // namespace
}  // namespace graft
