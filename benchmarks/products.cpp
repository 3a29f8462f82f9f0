#include "products.h"

#include <algorithm>
#include <array>
#include <set>

namespace graft {
namespace {

constexpr std::array<std::string_view, 5> kProducts{"conv2d", "depthwise_conv2d", "linear", "matmul", "attention"};

double bytes_of(const Spec& spec) {
  return static_cast<double>(spec.shape.elements()) * static_cast<double>(size_of(spec.dtype));
}

std::vector<Spec> specs(const nn::Program& program, const std::vector<nn::Value>& values) {
  std::vector<Spec> found;
  found.reserve(values.size());
  for (const nn::Value value : values) found.push_back(program[value].spec);
  return found;
}

// Whether a gradient reaches each value.
std::vector<bool> with_gradient(const nn::Program& program, nn::Network& network) {
  std::set<std::string> trainable;
  for (const nn::Parameter* parameter : network.trainable_parameters()) trainable.insert(parameter->name);
  std::vector<bool> reached;
  for (const nn::Program::ValueInfo& value : program.values)
    reached.push_back(value.kind == nn::Program::Kind::parameter && trainable.contains(value.name));
  const auto at = [&](nn::Value value) { return reached[static_cast<std::size_t>(value.index)]; };
  for (const nn::Program::Call& call : program.calls) {
    if (!std::any_of(call.inputs.begin(), call.inputs.end(), at)) continue;
    for (const nn::Value output : call.outputs) reached[static_cast<std::size_t>(output.index)] = true;
  }
  return reached;
}

}  // namespace

std::vector<Product> products(nn::Network& network, const Shape& input, DType dtype, bool training) {
  const nn::Program program = network.lower(input, {.training = training, .dtype = dtype, .outputs = {}});
  const std::vector<bool> reached = with_gradient(program, network);
  std::vector<Product> found;
  for (const nn::Program::Call& call : program.calls) {
    if (std::find(kProducts.begin(), kProducts.end(), call.op->name()) == kProducts.end()) continue;
    if (training && !reached[static_cast<std::size_t>(call.outputs[0].index)]) continue;
    const std::vector<Spec> inputs = specs(program, call.inputs), outputs = specs(program, call.outputs);
    Product product{call.op->operations(inputs, outputs), bytes_of(outputs[0])};
    const std::size_t operands = std::min<std::size_t>(2, inputs.size());  // what is behind them is a bias
    for (std::size_t i = 0; i < operands; ++i) product.bytes += bytes_of(inputs[i]);
    found.push_back(product);
    if (!training) continue;
    for (std::size_t i = 0; i < operands; ++i)
      if (reached[static_cast<std::size_t>(call.inputs[i].index)]) found.push_back(product);
    // Attention's one operand holds both factors of its products.
    if (operands == 1 && reached[static_cast<std::size_t>(call.inputs[0].index)]) found.push_back(product);
  }
  return found;
}

}  // namespace graft
