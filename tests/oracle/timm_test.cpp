// timm against graft: EfficientNet-Lite0 and the Vision Transformer, random weights, every format that PyTorch's users
// save.
#include <gtest/gtest.h>

#include "graft/io/convert.h"

#include "core/format.h"
#include "oracle/oracle.h"

namespace graft {
namespace {

constexpr double kForwardTolerance = 1e-4;  // f32

class TimmParity : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!oracle::available())
      GTEST_SKIP() << "set GRAFT_ORACLE_PYTHON to a Python with timm and torch to compare with timm";
    folder_ = oracle::results("timm_oracle.py", GetParam());
  }

  // The file as the model that its names tell, but for one whose names are another's; the input is of the size that the
  // oracle used.
  nn::Network convert(const std::string& file, const Shape& images) const {
    const std::string asked = GetParam().starts_with("timm_") ? GetParam() : "";
    nn::Network network = io::convert(folder_ / file, {.model = asked, .input_size = images[1]}).network;
    EXPECT_EQ(network.name, GetParam());
    network.set_input_shape({images[1], images[2], images[3]});
    return network;
  }

  std::filesystem::path folder_;
};

TEST_P(TimmParity, EveryFormatGivesTimmsOutputs) {
  const io::Safetensors expected = io::read_safetensors(folder_ / "forward.safetensors");
  const Shape images = expected.at("input").shape();
  const auto compare = [&](const std::string& file, Engine engine) {
    nn::Network network = convert(file, images);
    const oracle::Difference difference = oracle::compare_forward(network, expected, engine);
    EXPECT_LE(difference.error, kForwardTolerance) << file << ": " << difference.where;
    fmt::print("  {}, {}: {} values, worst {:.1e} at {}\n", file, name(engine), difference.compared, difference.error,
               difference.where);
  };
  for (const std::string file : {"zip.pt", "stream.pt", "weights.safetensors"}) compare(file, Engine::automatic);
  compare("zip.pt", Engine::native);
}

TEST_P(TimmParity, SwappedLayersOfTheSameShapeAreFound) {
  const io::Safetensors expected = io::read_safetensors(folder_ / "forward.safetensors");
  nn::Network network = convert("zip.pt", expected.at("input").shape());
  const auto [first, second] = oracle::swap_alike(network);
  EXPECT_GT(oracle::compare_forward(network, expected, Engine::automatic).error, 100 * kForwardTolerance)
      << first << " and " << second << " are swapped";
}

TEST_P(TimmParity, FullSizeImage) {
  const io::Safetensors expected = io::read_safetensors(folder_ / "full.safetensors");
  nn::Network network =
      convert(std::filesystem::exists(folder_ / "full.pt") ? "full.pt" : "zip.pt", expected.at("input").shape());
  const oracle::Difference difference = oracle::compare_forward(network, expected, Engine::automatic);
  EXPECT_LE(difference.error, kForwardTolerance) << difference.where;
}

INSTANTIATE_TEST_SUITE_P(Models, TimmParity,
                         testing::Values("efficientnet_lite0", "timm_efficientnet_lite0", "vit_tiny", "vit_small",
                                         "vit_base"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace graft
