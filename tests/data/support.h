#pragma once

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "graft/core/error.h"
#include "graft/core/generator.h"
#include "graft/core/tensor.h"

namespace graft::data {

/// A directory of its own for a test, removed with what is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "graft-data-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw Error("no temporary directory can be made: " + name);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  std::filesystem::path write(const std::filesystem::path& name, std::span<const std::byte> bytes) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return path_ / name;
  }
  std::filesystem::path write(const std::filesystem::path& name, const std::string& text) const {
    return write(name, std::as_bytes(std::span(text)));
  }

 private:
  std::filesystem::path path_;
};

/// u8 [height, width, channels]: waves and a little noise, different for each seed.
inline Tensor picture(Index height, Index width, Index channels = 3, std::uint64_t seed = 0) {
  Tensor image = Tensor::empty({height, width, channels}, DType::u8);
  auto* out = image.mutable_data<std::uint8_t>();
  Generator generator{.seed = seed};
  const double phase = generator.uniform() * 6;
  for (Index i = 0; i < image.elements(); ++i) {
    const double x = static_cast<double>(i / channels % width), y = static_cast<double>(i / channels / width),
                 c = static_cast<double>(i % channels);
    const double wave = std::sin(x / 6 + phase) * std::cos(y / (5 + c) + phase);
    out[i] = static_cast<std::uint8_t>(127 + 110 * wave + 15 * generator.uniform());
  }
  return image;
}

/// The largest difference between two tensors of one shape and type, or infinity if they are not.
inline double largest_difference(const Tensor& a, const Tensor& b) {
  if (a.spec() != b.spec()) return INFINITY;
  const Tensor left = a.to(DType::f64), right = b.to(DType::f64);
  double most = 0;
  for (Index i = 0; i < left.elements(); ++i)
    most = std::max(most, std::abs(left.data<double>()[i] - right.data<double>()[i]));
  return most;
}

}  // namespace graft::data
