// Runs a network as a plan, compiled for one shape of input, and shows what became of its layers: compiled
// WEIGHTS.safetensors
#include <iostream>

#include "graft/core/error.h"
#include "graft/io/network_file.h"
#include "graft/plan/plan.h"

int main(int argc, char** argv) try {
  using namespace graft;
  const nn::Network network = io::load_network(argc > 1 ? argv[1] : "weights.safetensors");
  const Shape& image = network.input_shape();
  const Tensor images = Tensor::zeros({16, image[0], image[1], image[2]});

  const plan::Plan plan = plan::compile(network, images.shape());
  const Tensor output = plan.run(images).front();
  for (const plan::Step& step : plan.steps()) std::cout << step.layers.back() << ": " << step.op << '\n';
} catch (const graft::Error& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
