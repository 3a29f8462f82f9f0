#pragma once

#include <cmath>

#include <gtest/gtest.h>

#include "graft/models/models.h"

#include "support/op_check.h"

namespace graft::test {

/// A model of the zoo, small: one of each family, and the others.
struct SmallModel {
  std::string name;
  Index size = 32;
};

inline const std::vector<SmallModel>& small_models() {
  static const std::vector<SmallModel> models{
      {"vgg16"}, {"resnet50"}, {"mobilenet"}, {"inception_v3", 75}, {"efficientnet_lite0"}, {"vit_tiny"}};
  return models;
}

inline std::vector<SmallModel> all_models() {
  std::vector<SmallModel> models = small_models();
  for (const char* name : {"vgg19", "resnet101", "resnet152", "vit_small", "vit_base"}) models.push_back({name});
  return models;
}

/// Gives all parameters values, and statistics, scales and biases others than the first ones: what forgets one is seen.
inline void randomize(nn::Network& network) {
  network.seed = 3;
  network.materialize();
  std::uint64_t seed = 100;
  for (nn::Parameter* parameter : network.parameters()) {
    if (parameter->shape.rank() != 1) continue;
    const Tensor normal = random_normal(parameter->shape, seed++).to(DType::f32);
    const bool around_one = parameter->name.ends_with("gamma") || parameter->name.ends_with("variance");
    float* values = parameter->value.mutable_data<float>();
    for (Index i = 0; i < parameter->shape.elements(); ++i)
      values[i] = around_one ? 1 + 0.3f * std::tanh(normal.data<float>()[i]) : 0.2f * normal.data<float>()[i];
  }
}

inline nn::Network make(const SmallModel& model) {
  nn::Network network = models::make(model.name, {.classes = 10, .height = model.size, .width = model.size});
  randomize(network);
  return network;
}

inline double largest(const Tensor& values) {
  double most = 0;
  const Tensor exact = values.to(Device{}).to(DType::f64);
  for (const double value : exact.values<double>()) most = std::fmax(most, std::fabs(value));
  return most;
}

/// The largest difference of two tensors of one shape and type, as a share of the largest number in `b`.
inline double difference(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.spec(), b.spec());
  const Tensor x = a.to(Device{}).to(DType::f64), y = b.to(Device{}).to(DType::f64);
  double most = 0;
  for (Index i = 0; i < x.elements(); ++i) most = std::fmax(most, std::fabs(x.data<double>()[i] - y.data<double>()[i]));
  return most == 0 ? 0 : most / largest(b);
}

}  // namespace graft::test
