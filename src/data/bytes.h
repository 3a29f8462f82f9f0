#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace graft::data {

using Bytes = std::span<const std::byte>;

// The caller has checked that the bytes are there.
inline unsigned u8_at(Bytes bytes, std::size_t at) { return std::to_integer<unsigned>(bytes[at]); }
inline std::uint32_t big16(Bytes bytes, std::size_t at) { return u8_at(bytes, at) << 8 | u8_at(bytes, at + 1); }
inline std::uint32_t big32(Bytes bytes, std::size_t at) { return big16(bytes, at) << 16 | big16(bytes, at + 2); }
inline std::uint32_t little16(Bytes bytes, std::size_t at) { return u8_at(bytes, at + 1) << 8 | u8_at(bytes, at); }
inline std::uint32_t little32(Bytes bytes, std::size_t at) {
  return little16(bytes, at + 2) << 16 | little16(bytes, at);
}

}  // namespace graft::data
