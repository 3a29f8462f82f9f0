#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "graft/core/tensor.h"

namespace graft::data {

/// Red, green, blue.
using Color = std::array<std::uint8_t, 3>;

inline constexpr Color kWhite = {255, 255, 255};

/// An upper bound of what an image may declare, 16384 x 16384 pixels: more is refused before any memory is asked for.
inline constexpr Index kMaxPixels = Index{1} << 28;

/// Reads a photo: JPEG, PNG or BMP, recognised by its content and not by its name.
///
/// Grey becomes RGB; CMYK becomes RGB as in PIL (inverted, as Adobe writes it); 16 bits a channel become their upper 8;
/// transparent pixels are put on `background`; an EXIF orientation is applied, so that up is up.
///
/// returns  u8 [H, W, 3], RGB
/// throws   Error naming the file if it cannot be read, is of none of these formats, is truncated or damaged, or
/// declares more than kMaxPixels
Tensor decode_image(const std::filesystem::path& file, Color background = kWhite);

/// The same for an image in memory; `name` stands for the file in errors.
Tensor decode_image(std::span<const std::byte> bytes, const std::string& name, Color background = kWhite);

/// Writes u8 [H, W, 3] (RGB) as a JPEG of quality 1 to 100. Throws Error for any other tensor.
std::vector<std::byte> encode_jpeg(const Tensor& image, int quality = 85);

/// Writes u8 [H, W, C] as a PNG without loss; C is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha). Throws Error
/// for any other tensor.
std::vector<std::byte> encode_png(const Tensor& image);

}  // namespace graft::data
