#include "graft/predict/packed_file.h"

#include <cstdlib>
#include <fstream>

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "graft/io/network_file.h"
#include "graft/nn/layers.h"
#include "graft/predict/predictor.h"

#include "core/format.h"
#include "data/support.h"
#include "kernels/registry.h"
#include "support/op_check.h"

namespace graft::predict {
namespace {

namespace fs = std::filesystem;

class PackedFile : public testing::Test {
 protected:
  PackedFile() { save(1); }

  void save(std::uint64_t seed) {
    nn::Builder b({.height = 32, .width = 32});
    auto x = b.add("conv1", nn::Conv2d({.out = 16, .kernel = 3, .padding = kSame, .bias = false}), b.input());
    x = b.add("bn1", nn::BatchNorm(), x);
    x = b.add("conv2", nn::Conv2d({.out = 32, .kernel = 3, .padding = kSame}), x);
    x = b.add("bn2", nn::BatchNorm(), x);
    x = b.add("depthwise", nn::DepthwiseConv2d({.kernel = 3, .activation = Activation::relu}), x);
    x = b.add("pool", nn::GlobalAveragePool(), x);
    nn::Network network = b.build(b.add("top", nn::Linear({.out = 10, .softmax = true}), x));
    network.seed = seed;
    network.materialize();
    io::save_network(network, weights_);
  }
  std::vector<float> predict() const {
    const Tensor batch = test::random_normal({2, 32, 32, 3}, 5).to(DType::f32);
    const Tensor probabilities = Predictor::load(weights_).probabilities(batch);
    return {probabilities.values<float>().begin(), probabilities.values<float>().end()};
  }
  ino_t inode() const {
    struct stat status {};
    EXPECT_EQ(stat(packed_.c_str(), &status), 0) << packed_;
    return status.st_ino;
  }

  data::TemporaryFolder folder_;
  fs::path weights_ = folder_.path() / "small.safetensors";
  fs::path packed_ = folder_.path() / fmt::format("small.safetensors.packed-{}", kernels::vectorized_isa());
};

TEST_F(PackedFile, IsMadeOnceAndGivesTheSameBits) {
  EXPECT_FALSE(fs::exists(packed_));
  const std::vector<float> first = predict();
  const ino_t made = inode();
  EXPECT_EQ(predict(), first);
  EXPECT_EQ(inode(), made);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), fs::directory_iterator()), 2);
}

TEST_F(PackedFile, HoldsNormsFoldedIntoWeights) {
  predict();
  const FileIdentity file(weights_);
  const nn::Network network = io::load_network(weights_);
  const auto cache = packed_beside(file, network);
  const auto entry = cache->find(
      "conv1/weight f32 [16, 3, 3, 3], folded with epsilon 0.001, of conv1/weight bn1/gamma bn1/moving_variance");
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->value.spec(), (Spec{{16, 3, 3, 3}, DType::f32}));
  EXPECT_EQ(cache->find("conv1/weight f32 [16, 3, 3, 3] conv1/weight"), nullptr);
}

TEST_F(PackedFile, OfOtherWeightsIsReplaced) {
  const std::vector<float> before = predict();
  const ino_t made = inode();
  save(2);
  EXPECT_NE(predict(), before);
  EXPECT_NE(inode(), made);
  save(1);
  EXPECT_EQ(predict(), before);
}

TEST_F(PackedFile, ThatIsDamagedIsReplaced) {
  const std::vector<float> want = predict();
  std::ifstream in(packed_, std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(in), {}};
  const auto damaged = [&](const std::string& content) {
    std::ofstream(packed_, std::ios::binary) << content;
    EXPECT_EQ(predict(), want);
    std::ifstream now(packed_, std::ios::binary);
    EXPECT_EQ((std::string{std::istreambuf_iterator<char>(now), {}} == whole), true);
  };
  damaged("");
  damaged("short");
  damaged(std::string(8, '\xff') + whole.substr(8));
  damaged(whole.substr(0, whole.size() / 2));
  damaged(whole.substr(0, 8) + "no JSON" + whole.substr(15));
  std::string beyond = whole;
  const std::size_t at = beyond.find("\"at\":0");
  ASSERT_NE(at, std::string::npos);
  beyond.replace(at, 6, "\"at\":9");  // no multiple of a cache line
  damaged(beyond);
}

TEST_F(PackedFile, ThatCannotBeWrittenIsLeftOut) {
  fs::create_directory(packed_);
  const std::vector<float> first = predict();
  EXPECT_EQ(predict(), first);
  EXPECT_TRUE(fs::is_directory(packed_));
}

TEST_F(PackedFile, IsNotWantedByEveryone) {
  setenv("GRAFT_KEEP_PACKED", "0", 1);
  predict();
  unsetenv("GRAFT_KEEP_PACKED");
  EXPECT_FALSE(fs::exists(packed_));
}

TEST_F(PackedFile, EndsWithTheWeightsThatItIsOf) {
  const FileIdentity file(weights_);
  nn::Network network = io::load_network(weights_);
  const auto cache = packed_beside(file, network);
  EXPECT_TRUE(cache->is_valid());
  network.parameter("conv1/weight").value.fill(1);
  EXPECT_FALSE(cache->is_valid());
}

TEST_F(PackedFile, IsNotMadeOfAFileThatWasReplacedWhileItWasRead) {
  const FileIdentity file(weights_);
  const nn::Network network = io::load_network(weights_);
  save(1);
  EXPECT_EQ(packed_beside(file, network), nullptr);
}

}  // namespace
}  // namespace graft::predict
