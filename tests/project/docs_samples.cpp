// Writes what the commands of the pages work on: a small MobileNet with random weights, as mobilenet.safetensors.
#include <cstdio>

#include "graft/core/error.h"
#include "graft/io/network_file.h"
#include "graft/models/models.h"

int main() {
  try {
    graft::nn::Network network = graft::models::mobilenet({.classes = 10, .height = 64, .width = 64, .alpha = 0.25});
    network.materialize();
    graft::io::save_network(network, "mobilenet.safetensors");
  } catch (const graft::Error& error) {
    std::fprintf(stderr, "docs_samples: %s\n", error.what());
    return 1;
  }
}
