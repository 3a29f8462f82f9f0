#include "data/formats.h"

namespace graft::data {

// A TIFF block is a byte order ("II" little, "MM" big), the number 42, the offset of the first directory; a directory
// is a count and 12-byte entries of tag, type, count and value. Offsets are from the start of the block.
int exif_orientation(Bytes tiff) {
  constexpr std::uint32_t kOrientation = 0x0112, kShort = 3;
  constexpr std::size_t kHeaderBytes = 8, kEntryBytes = 12;
  if (tiff.size() < kHeaderBytes) return 1;
  const bool little = u8_at(tiff, 0) == 'I';
  if (u8_at(tiff, 0) != u8_at(tiff, 1) || (!little && u8_at(tiff, 0) != 'M')) return 1;
  const auto read16 = [&](std::size_t at) { return little ? little16(tiff, at) : big16(tiff, at); };
  if (read16(2) != 42) return 1;
  const std::size_t directory = little ? little32(tiff, 4) : big32(tiff, 4);
  if (directory > tiff.size() - 2) return 1;
  const std::size_t entries = read16(directory);
  for (std::size_t i = 0, at = directory + 2; i < entries && at + kEntryBytes <= tiff.size(); ++i, at += kEntryBytes) {
    if (read16(at) != kOrientation || read16(at + 2) != kShort) continue;
    const std::uint32_t value = read16(at + 8);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

}  // namespace graft::data
