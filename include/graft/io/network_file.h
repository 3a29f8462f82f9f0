#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "graft/nn/network.h"

namespace graft::io {

/// The metadata in which a network's graph stands.
inline constexpr const char* kNetworkKey = "graft.network";

/// Writes a network whole into one safetensors file: parameters and statistics by name, and in the metadata the graph,
/// preprocessing and classes. The file is written beside the target and renamed. `metadata` is stored too.
void save_network(nn::Network& network, const std::filesystem::path& path,
                  const std::map<std::string, std::string>& metadata = {});

/// Reads a network that save_network wrote, onto the Context's device; no model needs to be named. Layers of types of
/// your own must be registered before.
///
/// Throws Error if the file is not such a file, or a tensor is missing, unexpected, of the wrong shape, or holds a
/// value that is not finite.
nn::Network load_network(const std::filesystem::path& path);

}  // namespace graft::io
