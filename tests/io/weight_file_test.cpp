#include "graft/io/weight_file.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "graft/io/safetensors.h"

#include "io/samples.h"
#include "support/expect.h"

namespace graft::io {
namespace {
namespace fs = std::filesystem;

std::string hex(const Tensor& tensor) {
  std::string text;
  for (const char byte : bytes_of(tensor)) text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return text;
}

// What a build without the HDF5 reader says of every file that needs it.
const std::string kWithoutHdf5 = "configure with -DGRAFT_WITH_HDF5=ON";

// One line a tensor, so that a difference shows where it is.
std::string listing(const WeightFile& file) {
  std::string text = file.format + "\n";
  for (const WeightLayer& layer : file.layers) {
    for (const WeightTensor& t : layer.tensors)
      text += fmt::format("{} {} {} {} {}\n", layer.name, t.name, name(t.value.dtype()), t.value.shape().to_string(),
                          hex(t.value));
  }
  return text;
}

std::string listing(const nlohmann::json& expected) {
  std::string text = expected["format"].get<std::string>() + "\n";
  for (const auto& layer : expected["layers"]) {
    for (const auto& t : layer["tensors"]) {
      const auto extents = t["shape"].get<std::vector<Index>>();
      text += fmt::format("{} {} {} {} {}\n", layer["name"].get<std::string>(), t["name"].get<std::string>(),
                          t["dtype"].get<std::string>(), Shape(std::span<const Index>(extents)).to_string(),
                          t["hex"].get<std::string>());
    }
  }
  return text;
}

TEST(ReadWeights, GivesWhatOtherPackagesWrote) {
  const auto samples = oracle_samples();
  GRAFT_SKIP_WITHOUT_ORACLE(samples);
  const auto json = nlohmann::json::parse(read_text(*samples / "samples.json"));
  ASSERT_GT(json["read"].size(), 40u);
  for (const auto& [file, expected] : json["read"].items()) {
    SCOPED_TRACE(file);
    if (!GRAFT_HAS_HDF5 && expected["format"].get<std::string>().starts_with("keras")) {
      EXPECT_ERROR(read_weights(*samples / file), kWithoutHdf5);
      continue;
    }
    EXPECT_NO_THROW(EXPECT_EQ(listing(read_weights(*samples / file)), listing(expected)));
  }
}

TEST(ReadWeights, RefusesWithTheReason) {
  const auto samples = oracle_samples();
  GRAFT_SKIP_WITHOUT_ORACLE(samples);
  const auto json = nlohmann::json::parse(read_text(*samples / "samples.json"));
  ASSERT_GT(json["refuse"].size(), 40u);
  for (const auto& [file, message] : json["refuse"].items()) {
    SCOPED_TRACE(file);
    const bool unread = !GRAFT_HAS_HDF5 && read_text(*samples / file).starts_with("\x89HDF");
    EXPECT_ERROR(read_weights(*samples / file), unread ? kWithoutHdf5 : message.get<std::string>());
    EXPECT_ERROR(read_weights(*samples / file), file);
  }
  EXPECT_FALSE(fs::exists("executed"));
}

TEST(ReadWeights, TellsWhereLayersComeFrom) {
  if (!GRAFT_HAS_HDF5) GTEST_SKIP() << "built without HDF5";
  const auto samples = oracle_samples();
  GRAFT_SKIP_WITHOUT_ORACLE(samples);
  struct Case {
    const char *file, *layer, *type, *path, *source;
    int rank;
  };
  for (const Case& c : std::vector<Case>{
           {"keras_frozen.h5", "c2", "conv2d", "base/c2", "/model_weights/base/c2/kernel", -1},
           {"keras_frozen_weights.h5", "c2", "", "base/c2", "/base/c2/kernel", -1},
           {"keras_frozen.weights.h5", "c2", "conv2d", "functional/layers/conv2d_1",
            "/layers/functional/layers/conv2d_1/vars/0", 1},
           {"keras_frozen.keras", "c2", "conv2d", "functional/layers/conv2d_1",
            "/layers/functional/layers/conv2d_1/vars/0", 1},
           {"v3_tf212.weights.h5", "conv2d_20", "conv2d", "conv2d_20",
            "/_layer_checkpoint_dependencies/conv2d_20/vars/0", 10},
           {"v3_attributes.weights.h5", "block1_conv1", "conv2d", "block1/layers/conv2d",
            "/block1/layers/conv2d/vars/0", 0},
           {"v3_attributes.weights.h5", "conv2d_7", "", "head", "/head/vars/0", -1},
           {"legacy_keras1_fixed.h5", "conv1", "", "conv1", "/conv1/conv1_W_1:0", -1},
           {"torch_checkpoint_zip.pth", "conv", "", "conv", "module.conv.weight", -1},
       }) {
    SCOPED_TRACE(c.file);
    const WeightFile file = read_weights(*samples / c.file);
    const WeightLayer* layer = file.find(c.layer);
    ASSERT_NE(layer, nullptr);
    EXPECT_EQ(layer->type, c.type);
    EXPECT_EQ(layer->path, c.path);
    EXPECT_EQ(layer->rank, c.rank);
    EXPECT_EQ(layer->tensors[0].source, c.source);
    EXPECT_EQ(layer->find("absent"), nullptr);
  }
  EXPECT_EQ(read_weights(*samples / "legacy_keras2_fixed.h5").keras_version, "2.2.4");
  EXPECT_EQ(read_weights(*samples / "keras_frozen.keras").keras_version.substr(0, 2), "3.");
  EXPECT_EQ(nlohmann::json::parse(read_weights(*samples / "keras_frozen.h5").model_config)["class_name"], "Functional");
}

TEST(ReadWeights, KeyWithoutDotIsALayerOfItsOwn) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "vit.safetensors";
  write_safetensors(path, {.tensors = {{"cls_token", Tensor::zeros({1, 1, 4})}, {"norm.weight", Tensor::zeros({4})}},
                           .metadata = {}});
  const WeightFile file = read_weights(path);
  ASSERT_EQ(file.layers.size(), 2u);
  EXPECT_EQ(file.layers[0].name, "cls_token");
  EXPECT_NE(file.layers[0].find("cls_token"), nullptr);
  EXPECT_EQ(file.layers[1].name, "norm");
  EXPECT_NE(file.layers[1].find("weight"), nullptr);
}

// Real files, where they lie beside the project. MobileNet has 55 layers with weights, 137 tensors; half its width
// 1,342,536 parameters.
TEST(ReadWeights, RealMobileNetIsTheSameInEveryLayout) {
  if (!GRAFT_HAS_HDF5) GTEST_SKIP() << "built without HDF5";
  const fs::path fixtures = fs::path(GRAFT_SOURCE_DIR) / "../shared/fixtures";
  if (!fs::exists(fixtures)) GTEST_SKIP() << "there is no folder " << fixtures;
  const WeightFile archive = read_weights(fixtures / "mobilenet_0.5_160.keras");
  Index tensors = 0, parameters = 0;
  for (const WeightLayer& layer : archive.layers) {
    for (const WeightTensor& tensor : layer.tensors) ++tensors, parameters += tensor.value.elements();
  }
  EXPECT_EQ(archive.layers.size(), 55u);
  EXPECT_EQ(tensors, 137);
  EXPECT_EQ(parameters, 1'342'536);
  for (const char* other : {"mobilenet_0.5_160.h5", "mobilenet_0.5_160.weights.h5"}) {
    const WeightFile file = read_weights(fixtures / other);
    ASSERT_EQ(file.layers.size(), archive.layers.size());
    for (const WeightLayer& layer : archive.layers) {
      const WeightLayer* same = file.find(layer.name);
      ASSERT_NE(same, nullptr) << layer.name;
      for (const WeightTensor& tensor : layer.tensors) {
        ASSERT_NE(same->find(tensor.name), nullptr) << layer.name << tensor.name;
        EXPECT_EQ(bytes_of(*same->find(tensor.name)), bytes_of(tensor.value)) << layer.name << tensor.name;
      }
    }
  }
}

}  // namespace
}  // namespace graft::io
