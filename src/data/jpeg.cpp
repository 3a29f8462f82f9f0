#include <cstring>
#include <memory>
#include <string_view>

#include "core/format.h"
#include "data/formats.h"

#if GRAFT_HAS_TURBOJPEG
#include <turbojpeg.h>
#endif

namespace graft::data {
namespace {

// ITU T.81, table B.1.
constexpr unsigned kTemporary = 0x01, kFirstRestart = 0xD0, kLastRestart = 0xD7, kEndOfImage = 0xD9, kApp1 = 0xE1,
                   kHuffmanTables = 0xC4;

// SOF0 to SOF15: the numbers between, DHT, JPG and DAC, are none.
bool is_frame(unsigned marker) {
  return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}

bool begins_with(Bytes bytes, std::string_view text) {
  return bytes.size() >= text.size() && std::memcmp(bytes.data(), text.data(), text.size()) == 0;
}

// A segment of tables, each a class and number (1 byte), how many codes of each length there are (16), and the codes'
// values. stb_image believes the counts.
bool holds_huffman_tables(Bytes segment) {
  constexpr std::size_t kBefore = 17, kMostCodes = 256;
  while (!segment.empty()) {
    if (segment.size() < kBefore) return false;
    std::size_t codes = 0;
    for (std::size_t i = 1; i < kBefore; ++i) codes += u8_at(segment, i);
    if (codes > kMostCodes || codes > segment.size() - kBefore) return false;
    segment = segment.subspan(kBefore + codes);
  }
  return true;
}

}  // namespace

bool is_jpeg(Bytes bytes) { return begins_with(bytes, "\xFF\xD8\xFF"); }

// Compressed data holds no marker (0xFF is followed by 0 there), so one loop runs over segments and data alike. That
// the end marker is found is checked here because decoders fill what is missing with grey: a cut-off file must not
// become a training example.
Header read_jpeg_header(Bytes jpeg, const std::string& name) {
  Header header;
  bool oriented = false;
  const auto cut_off = [&] {
    fail("[image] {}: the JPEG is cut off: no end marker within its {} bytes", name, jpeg.size());
  };
  for (std::size_t at = 2;;) {
    const void* found = at < jpeg.size() ? std::memchr(jpeg.data() + at, 0xFF, jpeg.size() - at) : nullptr;
    if (found == nullptr) cut_off();
    at = static_cast<std::size_t>(static_cast<const std::byte*>(found) - jpeg.data());
    while (at < jpeg.size() && u8_at(jpeg, at) == 0xFF) ++at;
    if (at == jpeg.size()) cut_off();
    const unsigned marker = u8_at(jpeg, at++);
    if (marker == kEndOfImage) break;
    if (marker == 0 || marker == kTemporary || (marker >= kFirstRestart && marker <= kLastRestart)) continue;

    if (jpeg.size() - at < 2) cut_off();
    const std::size_t length = big16(jpeg, at);
    check(length >= 2, "[image] {}: damaged JPEG: the segment 0xFF{:02X} at byte {} has length {}", name, marker,
          at - 2, length);
    if (length > jpeg.size() - at) cut_off();
    const Bytes segment = jpeg.subspan(at + 2, length - 2);
    at += length;
    if (is_frame(marker) && header.channels == 0 && segment.size() >= 6) {
      header.height = big16(segment, 1);
      header.width = big16(segment, 3);
      header.channels = static_cast<int>(u8_at(segment, 5));
    } else if (marker == kApp1 && !oriented && begins_with(segment, std::string_view("Exif\0\0", 6))) {
      header.orientation = exif_orientation(segment.subspan(6));
      oriented = true;
    } else if (marker == kHuffmanTables) {
      check(holds_huffman_tables(segment), "[image] {}: damaged JPEG: impossible Huffman table before byte {}", name,
            at);
    }
  }
  check(header.channels > 0, "[image] {}: damaged JPEG: its end marker comes before any frame", name);
  return header;
}

#if GRAFT_HAS_TURBOJPEG
namespace {

using Handle = std::unique_ptr<void, decltype(&tjDestroy)>;

Handle handle(tjhandle created) {
  check(created != nullptr, "[image] libjpeg-turbo: {}", tjGetErrorStr2(nullptr));
  return Handle(created, tjDestroy);
}

// Cameras and web sites leave stray bytes and odd version numbers behind, which harm nothing; every other warning means
// that pixels were made up.
bool is_harmless(std::string_view warning) {
  for (const auto part : {"extraneous bytes", "Adobe color transform", "JFIF revision"}) {
    if (warning.find(part) != std::string_view::npos) return true;
  }
  return false;
}

// Adobe stores ink inverted, 255 for none, and everybody who writes CMYK JPEG does as Adobe does. The rounding is
// PIL's.
void cmyk_to_rgb(const std::uint8_t* inverted, Index pixels, std::uint8_t* rgb) {
  for (Index i = 0; i < pixels; ++i, inverted += 4, rgb += 3) {
    const unsigned light = inverted[3];
    for (int c = 0; c < 3; ++c) {
      const unsigned product = (255u - inverted[c]) * light + 128;
      rgb[c] = static_cast<std::uint8_t>(light - ((product + (product >> 8)) >> 8));
    }
  }
}

}  // namespace

Tensor decode_jpeg(Bytes jpeg, const Header& header, const std::string& name) {
  const Handle decoder = handle(tjInitDecompress());
  const bool cmyk = header.channels == 4;
  Tensor stored = Tensor::empty({header.height, header.width, cmyk ? 4 : 3}, DType::u8);
  const int status = tjDecompress2(decoder.get(), reinterpret_cast<const unsigned char*>(jpeg.data()),
                                   static_cast<unsigned long>(jpeg.size()), stored.mutable_data<std::uint8_t>(),
                                   static_cast<int>(header.width), 0, static_cast<int>(header.height),
                                   cmyk ? TJPF_CMYK : TJPF_RGB, TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS);
  if (status != 0) {
    const std::string_view message = tjGetErrorStr2(decoder.get());
    check(tjGetErrorCode(decoder.get()) == TJERR_WARNING && is_harmless(message), "[image] {}: damaged JPEG: {}", name,
          message);
  }
  if (!cmyk) return stored;
  Tensor rgb = Tensor::empty({header.height, header.width, 3}, DType::u8);
  cmyk_to_rgb(stored.data<std::uint8_t>(), header.height * header.width, rgb.mutable_data<std::uint8_t>());
  return rgb;
}

#else

Tensor decode_jpeg(Bytes jpeg, const Header&, const std::string& name) { return decode_with_stb(jpeg, name, kWhite); }

#endif

std::vector<std::byte> encode_jpeg(const Tensor& image, int quality) {
  check(image.dtype() == DType::u8 && image.shape().rank() == 3 && image.shape()[2] == 3 && image.elements() > 0,
        "[encode_jpeg] expected u8 [H, W, 3], got {} {}", image.dtype(), image.shape());
  check(quality >= 1 && quality <= 100, "[encode_jpeg] expected a quality from 1 to 100, got {}", quality);
  check(image.shape()[0] <= 65500 && image.shape()[1] <= 65500,
        "[encode_jpeg] a JPEG has at most 65500 rows and columns, got {}", image.shape());
#if GRAFT_HAS_TURBOJPEG
  const Handle encoder = handle(tjInitCompress());
  unsigned char* jpeg = nullptr;
  unsigned long size = 0;
  const int status =
      tjCompress2(encoder.get(), image.data<std::uint8_t>(), static_cast<int>(image.shape()[1]), 0,
                  static_cast<int>(image.shape()[0]), TJPF_RGB, &jpeg, &size, TJSAMP_420, quality, TJFLAG_ACCURATEDCT);
  const std::unique_ptr<unsigned char, decltype(&tjFree)> owner(jpeg, tjFree);
  check(status == 0, "[encode_jpeg] {}", tjGetErrorStr2(encoder.get()));
  const auto bytes = std::as_bytes(std::span(jpeg, size));
  return {bytes.begin(), bytes.end()};
#else
  return encode_jpeg_with_stb(image, quality);
#endif
}

}  // namespace graft::data
