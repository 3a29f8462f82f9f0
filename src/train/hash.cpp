#include "train/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/format.h"

namespace graft::train {

std::string hash_of(std::span<const std::byte> bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

std::string hash_of(const Tensor& anywhere) {
  const Tensor tensor = anywhere.to(Device{});
  return hash_of(std::span(static_cast<const std::byte*>(tensor.raw()), tensor.bytes()));
}

std::uint64_t digest_of(std::span<const std::byte> bytes, std::uint64_t place) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), place);
}

}  // namespace graft::train
