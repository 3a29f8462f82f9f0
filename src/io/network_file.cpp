#include "graft/io/network_file.h"

#include <set>

#include "graft/core/context.h"
#include "graft/core/version.h"
#include "graft/io/safetensors.h"

#include "core/format.h"
#include "io/tensor_checks.h"

namespace graft::io {
namespace {

constexpr const char* kVersionKey = "graft.version";

}  // namespace

void save_network(nn::Network& network, const std::filesystem::path& path,
                  const std::map<std::string, std::string>& metadata) {
  Safetensors file;
  file.metadata = metadata;
  file.metadata[kNetworkKey] = network.to_json();
  file.metadata[kVersionKey] = kVersion;
  for (const nn::Parameter* parameter : network.parameters())
    file.tensors.emplace_back(parameter->name, parameter->value);
  write_safetensors(path, file);
}

nn::Network load_network(const std::filesystem::path& path) {
  Safetensors file = read_safetensors(path);
  const auto graph = file.metadata.find(kNetworkKey);
  check(graph != file.metadata.end(), "{}: the file holds tensors but no graft network; import it with 'graft convert'",
        path.string());
  try {
    nn::Network network = nn::Network::from_json(graph->second);
    std::set<std::string> missing;
    for (const auto& [name, unused] : network.parameter_table()) missing.insert(name);
    for (auto& [name, tensor] : file.tensors) {
      check(missing.erase(name) == 1, "tensor '{}' belongs to no layer of the network", name);
      nn::Parameter& parameter = network.parameter(name);
      check(tensor.shape() == parameter.shape, "tensor '{}': expected {}, got {}", name, parameter.shape,
            tensor.shape());
      check_finite(name, tensor);
      parameter.value = tensor.dtype() == DType::f64 ? tensor : tensor.to(DType::f32);
    }
    check(missing.empty(), "tensor '{}' is missing ({} in all)", missing.empty() ? "" : *missing.begin(),
          missing.size());
    network.to(Context::current().device);
    return network;
  } catch (const Error& error) {
    fail("{}: {}", path.string(), error.what());
  }
}

}  // namespace graft::io
