#include "graft/data/image.h"

#include <cstring>
#include <tuple>

#include <gtest/gtest.h>

#include "data/support.h"
#include "support/expect.h"

namespace graft::data {
namespace {

using Bytes = std::vector<std::byte>;

// A PNG begins with its signature (8 bytes) and the chunk IHDR: length (4), name (4), width, height.
Bytes png_declaring(Bytes png, std::uint32_t width, std::uint32_t height) {
  put32(png, 16, width);
  put32(png, 20, height);
  repair_checksums(png);
  return png;
}

Bytes jpeg_declaring(Bytes jpeg, unsigned width, unsigned height) {
  for (std::size_t i = 2; i + 9 < jpeg.size(); ++i) {
    if (jpeg[i] != std::byte{0xFF} || jpeg[i + 1] != std::byte{0xC0}) continue;
    const unsigned values[] = {height >> 8, height & 255, width >> 8, width & 255};
    for (std::size_t k = 0; k < 4; ++k) jpeg[i + 5 + k] = static_cast<std::byte>(values[k]);
    return jpeg;
  }
  throw Error("no baseline frame in the JPEG");
}

// The JPEG with an APP1 segment of `payload` behind its start marker.
Bytes with_app1(const Bytes& jpeg, const std::string& payload) {
  Bytes result(jpeg.begin(), jpeg.begin() + 2);
  const std::size_t length = payload.size() + 2;
  for (const unsigned b : {0xFFu, 0xE1u, static_cast<unsigned>(length >> 8), static_cast<unsigned>(length & 255)})
    result.push_back(std::byte(b));
  for (const char c : payload) result.push_back(static_cast<std::byte>(c));
  result.insert(result.end(), jpeg.begin() + 2, jpeg.end());
  return result;
}

std::string tiff_with_orientation(char orientation) {
  return std::string("II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", 18) + orientation + std::string(7, '\0');
}

TEST(EncodePng, IsReadBackWithoutLoss) {
  const Tensor image = picture(13, 17);
  EXPECT_EQ(largest_difference(decode_image(encode_png(image), "memory"), image), 0);
}

TEST(EncodeJpeg, IsReadBackNearly) {
  const Tensor image = Tensor::full({20, 24, 3}, 90, DType::u8);
  EXPECT_LE(largest_difference(decode_image(encode_jpeg(image, 95), "memory"), image), 2);
  EXPECT_LT(encode_jpeg(picture(64, 64), 20).size(), encode_jpeg(picture(64, 64), 90).size());
}

TEST(Encode, RefusesWhatIsNoImage) {
  EXPECT_ERROR(encode_jpeg(Tensor::zeros({4, 4, 3})), "[encode_jpeg] expected u8 [H, W, 3], got f32 [4, 4, 3]");
  EXPECT_ERROR(encode_jpeg(picture(4, 4), 0), "quality from 1 to 100, got 0");
  EXPECT_ERROR(encode_png(Tensor::zeros({4, 4, 5}, DType::u8)), "got u8 [4, 4, 5]");
}

TEST(DecodeImage, GreyAndAlphaBecomeRgb) {
  const Tensor grey = Tensor::from<std::uint8_t>({1, 2, 1}, {7, 250});
  EXPECT_EQ(largest_difference(decode_image(encode_png(grey), "grey"),
                               Tensor::from<std::uint8_t>({1, 2, 3}, {7, 7, 7, 250, 250, 250})),
            0);
  const Tensor alpha = Tensor::from<std::uint8_t>({1, 3, 4}, {10, 20, 30, 255, 10, 20, 30, 0, 100, 100, 100, 51});
  const auto on_red =
      Tensor::from<std::uint8_t>({1, 3, 3}, {10, 20, 30, 255, 0, 0, 224, 20, 20});  // 51 is a fifth of 255
  EXPECT_EQ(largest_difference(decode_image(encode_png(alpha), "alpha", {255, 0, 0}), on_red), 0);
}

TEST(DecodeImage, TurnsByExifOrientation) {
  const Tensor image = picture(16, 32);
  const Bytes jpeg = encode_jpeg(image, 100);
  const Tensor stored = decode_image(jpeg, "stored");
  const auto pixel = [](const Tensor& t, Index y, Index x) {
    const auto* p = t.data<std::uint8_t>() + (y * t.shape()[1] + x) * 3;
    return std::tuple(p[0], p[1], p[2]);
  };
  struct Case {
    char orientation;
    bool portrait;
    Index row, column;  // where the upright image's first pixel is stored
  };
  for (const Case& c : {Case{1, false, 0, 0}, Case{2, false, 0, 31}, Case{3, false, 15, 31}, Case{4, false, 15, 0},
                        Case{5, true, 0, 0}, Case{6, true, 15, 0}, Case{7, true, 15, 31}, Case{8, true, 0, 31}}) {
    const Tensor upright =
        decode_image(with_app1(jpeg, std::string("Exif\0\0", 6) + tiff_with_orientation(c.orientation)), "turned");
    EXPECT_EQ(upright.shape(), c.portrait ? (Shape{32, 16, 3}) : (Shape{16, 32, 3})) << int(c.orientation);
    EXPECT_EQ(pixel(upright, 0, 0), pixel(stored, c.row, c.column)) << int(c.orientation);
  }
}

TEST(DecodeImage, IgnoresExifThatMakesNoSense) {
  const Bytes jpeg = encode_jpeg(picture(16, 32));
  const std::string exif("Exif\0\0", 6);
  const std::string good = tiff_with_orientation(6);
  std::vector<std::string> senseless = {"",
                                        "II",
                                        "XX*",
                                        std::string("II*\0\xFF\xFF\xFF\xFF", 8),
                                        std::string("MM\0*\0\0\0\x07", 8),
                                        tiff_with_orientation(0),
                                        tiff_with_orientation(9),
                                        std::string("II+") + good.substr(3)};
  for (std::size_t length = 0; length < 20; ++length) senseless.push_back(good.substr(0, length));
  for (const auto& tiff : senseless)
    EXPECT_EQ(decode_image(with_app1(jpeg, exif + tiff), "exif").shape(), (Shape{16, 32, 3}));
}

TEST(DecodeImage, ReadsAFileWhateverItsName) {
  const TemporaryFolder folder;
  const auto file = folder.write("really_a_png.jpg", encode_png(picture(5, 6)));
  EXPECT_EQ(decode_image(file).shape(), (Shape{5, 6, 3}));
}

TEST(DecodeImage, NamesTheFileAndWhatIsWrong) {
  const TemporaryFolder folder;
  EXPECT_ERROR(decode_image(folder.path() / "none.jpg"), "none.jpg: no such file");
  EXPECT_ERROR(decode_image(folder.path()), "expected a file");
  EXPECT_ERROR(decode_image(folder.write("empty.jpg", "")),
               "empty.jpg: expected a JPEG, PNG or BMP image, got an empty file");
  EXPECT_ERROR(decode_image(folder.write("lfs.jpg", "version https://git-lfs.github.com/spec/v1\n")),
               "got a Git LFS pointer");
  EXPECT_ERROR(decode_image(folder.write("a.png", "GIF89a....")), "got a GIF");
  EXPECT_ERROR(decode_image(folder.write("b.png", "<svg/>")), "got text (HTML, XML or SVG)");
  EXPECT_ERROR(decode_image(folder.write("c.png", "abcdef")), "begins with 61 62 63 64");
}

TEST(DecodeImage, RefusesEveryCutOffFile) {
  for (const Bytes& whole : {encode_jpeg(picture(40, 48)), encode_png(picture(24, 20)), encode_png(picture(9, 8, 4))}) {
    EXPECT_NO_THROW(decode_image(whole, "whole"));
    for (std::size_t length = 0; length < whole.size(); ++length) {
      EXPECT_ERROR(decode_image(std::span(whole).first(length), "cut.jpg"), "[image] cut.jpg: ");
    }
  }
}

TEST(DecodeImage, RefusesEveryChangedBitOfAPng) {
  const Bytes whole = encode_png(picture(12, 11));
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    Bytes changed = whole;
    changed[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    EXPECT_ERROR(decode_image(changed, "changed.png"), "[image] changed.png: ");
  }
}

// A changed byte may still leave an image.
TEST(DecodeImage, SurvivesEveryChangedByte) {
  EXPECT_GT(decode_changed(encode_jpeg(picture(24, 40))), 0);
  EXPECT_GT(decode_changed(encode_png(picture(9, 8))), 0);
  EXPECT_GT(decode_changed(encode_png(picture(7, 12, 2))), 0);
}

// The end marker is there, but what comes before it is not: the decoder would have to make pixels up.
TEST(DecodeImage, RefusesAJpegWithAHoleInItsData) {
  if (!GRAFT_HAS_TURBOJPEG) GTEST_SKIP() << "stb_image does not report missing data";
  Bytes jpeg = encode_jpeg(picture(64, 64));
  jpeg.erase(jpeg.end() - 400, jpeg.end() - 2);
  EXPECT_ERROR(decode_image(jpeg, "hole.jpg"), "[image] hole.jpg: damaged JPEG: ");
}

TEST(DecodeImage, AcceptsStrayBytesBeforeTheEndMarker) {
  Bytes jpeg = encode_jpeg(picture(32, 32));
  const Tensor clean = decode_image(jpeg, "clean");
  jpeg.insert(jpeg.end() - 2, 100, std::byte{0});
  EXPECT_EQ(largest_difference(decode_image(jpeg, "stray"), clean), 0);
}

TEST(DecodeImage, DoesNotBelieveDeclaredSizes) {
  const Bytes png = encode_png(picture(4, 4)), jpeg = encode_jpeg(picture(16, 16));
  EXPECT_EQ(decode_image(png_declaring(png, 4, 4), "as.png").shape(), (Shape{4, 4, 3}));
  EXPECT_ERROR(decode_image(png_declaring(png, 1u << 20, 1u << 20), "huge.png"),
               "huge.png: expected at most 268435456 pixels, got 1048576 x 1048576");
  EXPECT_ERROR(decode_image(png_declaring(png, 0xFFFFFFFFu, 0xFFFFFFFFu), "huge.png"), "expected at most");
  EXPECT_ERROR(decode_image(png_declaring(png, 16000, 16000), "wide.png"),
               "wide.png: damaged image: 16000 x 16000 pixels cannot be in");
  EXPECT_ERROR(decode_image(png_declaring(png, 0, 4), "none.png"), "it declares 0 x 4 pixels");
  EXPECT_ERROR(decode_image(png_declaring(png, 400, 400), "more.png"), "[image] more.png: damaged image: ");
  EXPECT_ERROR(decode_image(jpeg_declaring(jpeg, 65000, 65000), "huge.jpg"), "expected at most");
  EXPECT_ERROR(decode_image(jpeg_declaring(jpeg, 16000, 16000), "wide.jpg"), "cannot be in");
  EXPECT_ERROR(decode_image(jpeg_declaring(jpeg, 16, 0), "none.jpg"), "it declares 16 x 0 pixels");
  if (GRAFT_HAS_TURBOJPEG) {
    EXPECT_ERROR(decode_image(jpeg_declaring(jpeg, 400, 400), "more.jpg"), "[image] more.jpg: damaged JPEG: ");
  }
}

}  // namespace
}  // namespace graft::data
