#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>

#include "graft/nn/network.h"
#include "graft/plan/weight_cache.h"

namespace graft::predict {

/// Which file lies at a path now. Taken before the file is read, it tells afterwards whether it was replaced meanwhile.
struct FileIdentity {
  explicit FileIdentity(std::filesystem::path file);

  std::filesystem::path path;
  std::array<std::int64_t, 7> numbers{};  ///< device, inode, size, and when content and inode changed
};

/// What plans make of the weights of a network file, kept beside it: the next process maps it instead of making it
/// again. `W.safetensors.packed-avx512` is that of a processor with AVX-512. One that was made from another file, by
/// another version or for another library is not read but replaced, when the cache is destroyed; one that cannot be
/// written is left out. Programs replace such a file; who writes into it while one has it mapped may end that program.
///
/// ```
/// const predict::FileIdentity file("flowers.safetensors");
/// const nn::Network network = io::load_network(file.path);
/// const plan::Inference inference(network, {.cache = predict::packed_beside(file, network)});
/// ```
///
/// network  as io::load_network has read it from `weights`
/// returns  null if the file was replaced since, on a device, or if GRAFT_KEEP_PACKED=0 is in the environment
std::shared_ptr<plan::WeightCache> packed_beside(const FileIdentity& weights, const nn::Network& network);

}  // namespace graft::predict
