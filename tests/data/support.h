#pragma once

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "graft/core/error.h"
#include "graft/core/generator.h"
#include "graft/core/tensor.h"
#include "graft/data/image.h"

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

/// CRC-32 by definition, a bit at a time.
inline std::uint32_t crc32(std::span<const std::byte> bytes) {
  std::uint32_t c = ~0u;
  for (const std::byte b : bytes) {
    c ^= std::to_integer<std::uint32_t>(b);
    for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ ((c & 1u) != 0 ? 0xEDB88320u : 0u);
  }
  return ~c;
}

inline void put32(std::span<std::byte> bytes, std::size_t at, std::uint32_t value) {
  for (std::size_t i = 0; i < 4; ++i) bytes[at + i] = static_cast<std::byte>(value >> (24 - 8 * i));
}

inline std::uint32_t get32(std::span<const std::byte> bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = value << 8 | std::to_integer<std::uint32_t>(bytes[at + i]);
  return value;
}

/// Makes every chunk of a PNG match its checksum again, as somebody who forges one would.
inline void repair_checksums(std::span<std::byte> png) {
  for (std::size_t at = 8; png.size() - at >= 12;) {
    const std::size_t length = get32(png, at);
    if (length > png.size() - at - 12) return;
    put32(png, at + 8 + length, crc32(png.subspan(at + 4, length + 4)));
    at += length + 12;
  }
}

/// Changes each byte of an image in several ways, `step` bytes apart, and decodes it: every try must give an image or
/// an Error, never a crash (which a sanitizer would see) or another exception. Returns how many were refused.
inline int decode_changed(const std::vector<std::byte>& whole, std::size_t step = 1) {
  int refused = 0;
  for (std::size_t i = 0; i < whole.size(); i += step) {
    for (const unsigned mask : {0x01u, 0x80u, 0xFFu, 0x24u}) {
      std::vector<std::byte> changed = whole;
      changed[i] ^= static_cast<std::byte>(mask);
      if (whole.front() == std::byte{0x89}) repair_checksums(changed);
      try {
        static_cast<void>(decode_image(changed, "changed"));
      } catch (const Error& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("[image] changed: "));
        ++refused;
      }
    }
  }
  return refused;
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
