#include <array>
#include <cstring>
#include <string_view>

#include "core/format.h"
#include "data/formats.h"

namespace graft::data {
namespace {

constexpr std::string_view kSignature = "\x89PNG\r\n\x1A\n";

// The checksum of PNG (annex D of the specification): x^32 + x^26 + ... + 1, bits reversed.
constexpr std::array<std::uint32_t, 256> kCrcTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t n = 0; n < 256; ++n) {
    std::uint32_t c = n;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
    table[n] = c;
  }
  return table;
}();

std::uint32_t crc32(Bytes bytes) {
  std::uint32_t c = 0xFFFFFFFFu;
  for (const std::byte b : bytes) c = kCrcTable[(c ^ std::to_integer<std::uint32_t>(b)) & 0xFF] ^ (c >> 8);
  return ~c;
}

}  // namespace

bool is_png(Bytes bytes) {
  return bytes.size() >= kSignature.size() && std::memcmp(bytes.data(), kSignature.data(), kSignature.size()) == 0;
}

// A chunk is its data's length, a name, the data, and the checksum of name and data. stb_image checks neither checksums
// nor the end.
Header read_png_header(Bytes png, const std::string& name) {
  constexpr std::size_t kAround = 12;
  Header header;
  for (std::size_t at = kSignature.size();;) {
    const std::size_t left = png.size() - at;
    if (left < kAround || big32(png, at) > left - kAround) {
      fail("[image] {}: the PNG is cut off: no end chunk within its {} bytes", name, png.size());
    }
    const std::size_t length = big32(png, at);
    const Bytes data = png.subspan(at + 8, length);
    check(crc32(png.subspan(at + 4, length + 4)) == big32(png, at + 8 + length),
          "[image] {}: damaged PNG: wrong checksum in the chunk at byte {}", name, at);
    const std::string_view type(reinterpret_cast<const char*>(png.data() + at + 4), 4);
    if (type == "IHDR" && length >= 13 && header.channels == 0) {
      constexpr int kChannels[] = {1, 0, 3, 1, 2, 0, 4};  // by colour type; a palette is one channel
      const unsigned color = u8_at(data, 9);
      header.width = big32(data, 0);
      header.height = big32(data, 4);
      header.channels = color < std::size(kChannels) ? kChannels[color] : 0;
    } else if (type == "eXIf") {
      header.orientation = exif_orientation(data);
    } else if (type == "IEND") {
      break;
    }
    at += kAround + length;
  }
  check(header.channels > 0, "[image] {}: damaged PNG: no valid IHDR chunk", name);
  return header;
}

}  // namespace graft::data
