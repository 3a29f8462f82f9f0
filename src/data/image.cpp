#include "graft/data/image.h"

#include <cstring>
#include <fstream>
#include <string_view>
#include <system_error>

#include "core/format.h"
#include "data/formats.h"

namespace graft::data {
namespace {

constexpr std::uintmax_t kMaxFileBytes = std::uintmax_t{1} << 30;

std::vector<std::byte> read_file(const std::filesystem::path& file) {
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  check(std::filesystem::exists(status), "[image] {}: no such file", file.string());
  check(std::filesystem::is_regular_file(status), "[image] {}: expected a file, got something else", file.string());
  const auto size = std::filesystem::file_size(file, error);
  check(!error && size <= kMaxFileBytes, "[image] {}: expected at most {} bytes, got {}", file.string(), kMaxFileBytes,
        size);
  std::vector<std::byte> bytes(size);
  std::ifstream stream(file, std::ios::binary);
  stream.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  check(stream.good() && stream.gcount() == static_cast<std::streamsize>(size), "[image] {}: cannot be read",
        file.string());
  return bytes;
}

// The eight orientations are a transposition (5 to 8) and flips of the stored rows and columns: where each pixel of the
// upright image is stored.
Tensor upright(const Tensor& stored, int orientation) {
  if (orientation == 1) return stored;
  const bool transpose = orientation >= 5;
  const bool flip_rows = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const bool flip_columns = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const Index rows = stored.shape()[0], columns = stored.shape()[1];
  const Index height = transpose ? columns : rows, width = transpose ? rows : columns;
  Tensor turned = Tensor::empty({height, width, 3}, DType::u8);
  const auto* from = stored.data<std::uint8_t>();
  auto* to = turned.mutable_data<std::uint8_t>();
  for (Index y = 0; y < height; ++y) {
    for (Index x = 0; x < width; ++x, to += 3) {
      const Index row = transpose ? x : y, column = transpose ? y : x;
      const Index i = (flip_rows ? rows - 1 - row : row) * columns + (flip_columns ? columns - 1 - column : column);
      std::memcpy(to, from + 3 * i, 3);
    }
  }
  return turned;
}

std::string describe_unknown(Bytes bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), std::min<std::size_t>(bytes.size(), 64));
  if (bytes.empty()) return "an empty file";
  if (text.starts_with("version https://git-lfs")) return "a Git LFS pointer (the photo itself was not fetched)";
  if (text.starts_with("GIF8")) return "a GIF";
  if (text.starts_with("RIFF") && text.substr(0, 12).ends_with("WEBP")) return "a WebP";
  if (text.starts_with("II*") || text.starts_with("MM")) return "a TIFF";
  if (text.starts_with("<")) return "text (HTML, XML or SVG)";
  std::string hex;
  for (std::size_t i = 0; i < std::min<std::size_t>(bytes.size(), 4); ++i)
    hex += fmt::format(" {:02X}", u8_at(bytes, i));
  return fmt::format("a file that begins with{}", hex);
}

}  // namespace

// Both formats have a densest possible picture: a JPEG spends at least one bit on a block of at most 32 x 32 pixels,
// and deflate packs a PNG's bits 1032 to 1. A file that declares more than that is an attempt to have memory allocated.
void check_declared_size(const Header& header, Bytes bytes, const std::string& name) {
  constexpr Index kMaxPixelsPerByte = 8 * 1032;
  check(header.width > 0 && header.height > 0, "[image] {}: damaged image: it declares {} x {} pixels", name,
        header.width, header.height);
  check(header.width <= kMaxPixels / header.height, "[image] {}: expected at most {} pixels, got {} x {}", name,
        kMaxPixels, header.width, header.height);
  check(header.width * header.height / kMaxPixelsPerByte <= static_cast<Index>(bytes.size()),
        "[image] {}: damaged image: {} x {} pixels cannot be in {} bytes", name, header.width, header.height,
        bytes.size());
}

Tensor decode_image(Bytes bytes, const std::string& name, Color background) {
  if (is_jpeg(bytes)) {
    const Header header = read_jpeg_header(bytes, name);
    check_declared_size(header, bytes, name);
    return upright(decode_jpeg(bytes, header, name), header.orientation);
  }
  if (is_png(bytes)) {
    const Header header = read_png_header(bytes, name);
    check_declared_size(header, bytes, name);
    return upright(decode_with_stb(bytes, name, background), header.orientation);
  }
  const bool bmp = bytes.size() >= 2 && u8_at(bytes, 0) == 'B' && u8_at(bytes, 1) == 'M';
  check(bmp, "[image] {}: expected a JPEG, PNG or BMP image, got {}", name, describe_unknown(bytes));
  check_declared_size(read_header_with_stb(bytes, name), bytes, name);
  return decode_with_stb(bytes, name, background);
}

Tensor decode_image(const std::filesystem::path& file, Color background) {
  return decode_image(read_file(file), file.string(), background);
}

}  // namespace graft::data
