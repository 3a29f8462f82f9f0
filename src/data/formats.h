#pragma once

#include <string>

#include "graft/data/image.h"

#include "data/bytes.h"

/// The parts of decode_image: what a file declares is read and checked here, before a decoder may believe it.
namespace graft::data {

struct Header {
  Index width = 0;
  Index height = 0;
  int channels = 0;     ///< as stored; 4 is CMYK in a JPEG
  int orientation = 1;  ///< EXIF's 1 to 8
};

/// EXIF's orientation from a TIFF block; 1 if it has none, or makes no sense.
int exif_orientation(Bytes tiff);

bool is_jpeg(Bytes bytes);
/// Walks from marker to marker. Throws Error if the file ends before its end marker or declares no size.
Header read_jpeg_header(Bytes jpeg, const std::string& name);
/// u8 [H, W, 3], not yet turned upright.
Tensor decode_jpeg(Bytes jpeg, const Header& header, const std::string& name);

bool is_png(Bytes bytes);
/// Walks from chunk to chunk. Throws Error if the file ends before its end chunk or a checksum does not match.
Header read_png_header(Bytes png, const std::string& name);

/// Throws Error if there are no pixels, more than kMaxPixels, or more than the file's bytes could hold.
void check_declared_size(const Header& header, Bytes bytes, const std::string& name);

/// What stb_image reads, with transparent pixels on `background`: u8 [H, W, 3].
Tensor decode_with_stb(Bytes bytes, const std::string& name, Color background);
/// Width, height and channels as stb_image reads them. Throws Error if it cannot.
Header read_header_with_stb(Bytes bytes, const std::string& name);
std::vector<std::byte> encode_jpeg_with_stb(const Tensor& image, int quality);

}  // namespace graft::data
