#include <climits>
#include <cstdlib>
#include <memory>
#include <new>

#include "core/format.h"
#include "data/formats.h"

namespace {

// No honest image under graft's bound of pixels needs more at once (16384 x 16384, four channels of 16 bits); a
// compressed stream that unpacks to more than that is an attack.
constexpr std::size_t kMaxAllocation = (std::size_t{1} << 31) + (std::size_t{1} << 20);

void* bounded_malloc(std::size_t bytes) { return bytes > kMaxAllocation ? nullptr : std::malloc(bytes); }
void* bounded_realloc(void* block, std::size_t bytes) {
  return bytes > kMaxAllocation ? nullptr : std::realloc(block, bytes);
}

}  // namespace

// The formats that people have photos in. The others would be code to trust with hostile input, for nothing.
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#if !GRAFT_HAS_TURBOJPEG
#define STBI_ONLY_JPEG
#endif
#define STBI_NO_STDIO
#define STBI_MALLOC bounded_malloc
#define STBI_REALLOC bounded_realloc
#define STBI_FREE std::free
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>

#define STBI_WRITE_NO_STDIO
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb_image_write.h>

namespace graft::data {
namespace {

// PIL's paste with a mask: the mean of colour and background weighted by alpha, divided by 255 and rounded.
std::uint8_t over(unsigned color, unsigned background, unsigned alpha) {
  const unsigned sum = color * alpha + background * (255 - alpha) + 128;
  return static_cast<std::uint8_t>((sum + (sum >> 8)) >> 8);
}

void to_rgb(const std::uint8_t* from, int channels, Index pixels, Color background, std::uint8_t* rgb) {
  const bool grey = channels < 3, transparent = channels % 2 == 0;
  for (Index i = 0; i < pixels; ++i, from += channels, rgb += 3) {
    for (int c = 0; c < 3; ++c) {
      const std::uint8_t color = from[grey ? 0 : c];
      rgb[c] = transparent ? over(color, background[static_cast<std::size_t>(c)], from[channels - 1]) : color;
    }
  }
}

void append(void* context, void* data, int size) {
  auto& bytes = *static_cast<std::vector<std::byte>*>(context);
  const auto* first = static_cast<const std::byte*>(data);
  bytes.insert(bytes.end(), first, first + size);
}

}  // namespace

Header read_header_with_stb(Bytes bytes, const std::string& name) {
  int width = 0, height = 0, channels = 0;
  check(
      bytes.size() <= INT_MAX && stbi_info_from_memory(reinterpret_cast<const stbi_uc*>(bytes.data()),
                                                       static_cast<int>(bytes.size()), &width, &height, &channels) != 0,
      "[image] {}: damaged image: {}", name, stbi_failure_reason() ? stbi_failure_reason() : "unreadable header");
  return {.width = width, .height = height, .channels = channels};
}

Tensor decode_with_stb(Bytes bytes, const std::string& name, Color background) {
  check(bytes.size() <= INT_MAX, "[image] {}: expected at most {} bytes, got {}", name, INT_MAX, bytes.size());
  int width = 0, height = 0, channels = 0;
  const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> pixels(
      stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(bytes.data()), static_cast<int>(bytes.size()), &width,
                            &height, &channels, 0),
      stbi_image_free);
  check(pixels != nullptr, "[image] {}: damaged image: {}", name, stbi_failure_reason());
  Tensor rgb = Tensor::empty({height, width, 3}, DType::u8);
  to_rgb(pixels.get(), channels, Index{height} * width, background, rgb.mutable_data<std::uint8_t>());
  return rgb;
}

std::vector<std::byte> encode_jpeg_with_stb(const Tensor& image, int quality) {
  std::vector<std::byte> bytes;
  check(stbi_write_jpg_to_func(append, &bytes, static_cast<int>(image.shape()[1]), static_cast<int>(image.shape()[0]),
                               3, image.raw(), quality) != 0,
        "[encode_jpeg] stb_image_write failed on {}", image.shape());
  return bytes;
}

std::vector<std::byte> encode_png(const Tensor& image) {
  check(image.dtype() == DType::u8 && image.shape().rank() == 3 && image.shape()[2] >= 1 && image.shape()[2] <= 4 &&
            image.elements() > 0 && image.elements() <= 4 * kMaxPixels,
        "[encode_png] expected u8 [H, W, 1 to 4], got {} {}", image.dtype(), image.shape());
  std::vector<std::byte> bytes;
  const int width = static_cast<int>(image.shape()[1]), channels = static_cast<int>(image.shape()[2]);
  check(stbi_write_png_to_func(append, &bytes, width, static_cast<int>(image.shape()[0]), channels, image.raw(),
                               width * channels) != 0,
        "[encode_png] stb_image_write failed on {}", image.shape());
  return bytes;
}

}  // namespace graft::data
