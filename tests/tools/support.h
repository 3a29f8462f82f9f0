#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

#include "graft/data/image.h"
#include "graft/io/network_file.h"
#include "graft/io/safetensors.h"
#include "graft/nn/layers.h"
#include "graft/ops/shape.h"

#include "data/support.h"

/// Runs the built command as a user would, in a folder of its own.
namespace graft::tools {

namespace fs = std::filesystem;

struct Outcome {
  int code = -1;  ///< exit status; -1 if a signal ended it
  std::string out, error;

  nlohmann::json json() const { return nlohmann::json::parse(out); }
};

inline std::string read_text(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

/// Photos of three classes that colour tells apart, and networks for them.
class CommandTest : public testing::Test {
 protected:
  /// `arguments` as a shell reads them, `before` in the same shell; paths are relative to folder().
  Outcome graft(const std::string& arguments, const std::string& before = "") const {
    const std::string line = "cd '" + folder().string() + "' && " + before +
                             "XDG_CACHE_HOME=.cache OMP_NUM_THREADS=1 '" GRAFT_COMMAND "' " + arguments +
                             " > .out 2> .error";
    const int status = std::system(line.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_text(folder() / ".out"), read_text(folder() / ".error")};
  }

  const fs::path& folder() const { return folder_.path(); }
  bool exists(const fs::path& name) const { return fs::exists(folder() / name); }
  fs::path write(const fs::path& name, const std::string& text) const { return folder_.write(name, text); }

  /// data/{blue,green,red}/0.png ..., `count` each.
  void make_photos(const std::string& data = "data", int count = 6, Index height = 18, Index width = 22) const {
    const std::vector<std::string> classes = {"blue", "green", "red"};
    for (std::size_t c = 0; c < classes.size(); ++c) {
      for (int i = 0; i < count; ++i) {
        Tensor image = data::picture(height, width, 3, static_cast<std::uint64_t>(i));
        auto* pixels = image.mutable_data<std::uint8_t>();
        for (Index k = 0; k < image.elements(); ++k) {
          const bool own = static_cast<std::size_t>(k % 3) == 2 - c;
          pixels[k] = static_cast<std::uint8_t>(own ? 128 + pixels[k] / 2 : pixels[k] / 4);
        }
        folder_.write(fs::path(data) / classes[c] / (std::to_string(i) + ".png"), data::encode_png(image));
      }
    }
  }

  /// A classifier of four classes: two convolutions with a batch-norm, pooling (its features) and a linear layer.
  nn::Network network() const {
    nn::Builder b({.height = 12, .width = 12, .name = "tiny"});
    auto x = b.add("conv1", nn::Conv2d({.out = 6, .kernel = 3, .stride = 2, .bias = false}), b.input());
    x = b.add("bn1", nn::BatchNorm(), x);
    x = b.add("relu1", nn::Activate(Activation::relu), x);
    x = b.add("conv2", nn::Conv2d({.out = 8, .kernel = 3, .activation = Activation::relu}), x);
    x = b.add("pool", nn::GlobalAveragePool(), x);
    b.features(x);
    nn::Network made = b.build(b.add("top", nn::Linear({.out = 4, .softmax = true}), x));
    made.preprocessing = tf_preprocessing(12);
    made.seed = 11;
    return made;
  }

  void save(const std::string& name = "tiny.safetensors") const {
    nn::Network made = network();
    io::save_network(made, folder() / name);
  }

 private:
  data::TemporaryFolder folder_;
};

/// A network's parameters as PyTorch would name and lay them out.
inline io::Safetensors as_pytorch(nn::Network& network) {
  const std::map<std::string, std::string> names = {
      {"gamma", "weight"}, {"beta", "bias"}, {"moving_mean", "running_mean"}, {"moving_variance", "running_var"}};
  io::Safetensors file;
  for (const nn::Parameter* parameter : network.parameters()) {
    const std::string own = parameter->name.substr(parameter->layer.size() + 1);
    const Shape& shape = parameter->shape;
    Tensor value = parameter->value;
    if (shape.rank() == 4) value = ops::permute(value, {0, 3, 1, 2});
    if (shape.rank() == 3) value = ops::permute(value, {2, 0, 1}).reshaped({shape[2], 1, shape[0], shape[1]});
    file.tensors.emplace_back(parameter->layer + "." + (names.contains(own) ? names.at(own) : own), value);
  }
  return file;
}

/// A failure as a script sees it: this code, one sentence that begins with `graft: ` and says `what`, nothing on
/// standard output.
inline void expect_failure(const Outcome& got, int code, const std::string& what) {
  EXPECT_EQ(got.code, code) << got.error;
  EXPECT_THAT(got.error, testing::StartsWith("graft: "));
  EXPECT_THAT(got.error, testing::HasSubstr(what));
  EXPECT_EQ(std::count(got.error.begin(), got.error.end(), '\n'), 1) << got.error;
  EXPECT_EQ(got.out, "");
}

}  // namespace graft::tools
