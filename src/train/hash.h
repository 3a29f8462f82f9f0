#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "graft/core/tensor.h"

namespace graft::train {

/// XXH3 of the tensor's bytes, 32 hexadecimal digits.
std::string hash_of(const Tensor& tensor);
/// The same of bytes.
std::string hash_of(std::span<const std::byte> bytes);
/// XXH3 with 64 bits of bytes, mixed with a number that says where they belong.
std::uint64_t digest_of(std::span<const std::byte> bytes, std::uint64_t place);

}  // namespace graft::train
