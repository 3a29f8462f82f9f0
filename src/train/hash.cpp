#include "train/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/format.h"

namespace graft::train {

std::string hash_of(const Tensor& anywhere) {
  const Tensor tensor = anywhere.to(Device{});
  const XXH128_hash_t hash = XXH3_128bits(tensor.raw(), tensor.bytes());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace graft::train
