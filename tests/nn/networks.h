#pragma once

#include <cstring>

#include "graft/nn/layers.h"
#include "graft/nn/network.h"

#include "support/op_check.h"

namespace graft::test {

/// Two convolutions with batch-norms and a shortcut around the second, pooled and classified.
inline nn::Network small_network(Index classes = 3) {
  nn::Builder b({.height = 8, .width = 8, .channels = 3, .name = "small"});
  auto x = b.add("conv1", nn::Conv2d({.out = 4, .kernel = 3, .padding = kSame, .bias = false}), b.input());
  x = b.add("conv1_bn", nn::BatchNorm(), x);
  const auto shortcut = b.add("conv1_relu", nn::Activate(Activation::relu), x);
  x = b.add("conv2", nn::Conv2d({.out = 4, .kernel = 3, .padding = kSame, .activation = Activation::relu}), shortcut);
  x = b.add("add", nn::Add(), std::vector{shortcut, x});
  x = b.add("pool", nn::GlobalAveragePool(), x);
  b.features(x);
  x = b.add("dropout", nn::Dropout({.rate = 0.5}), x);
  return b.build(b.add("predictions", nn::Linear({.out = classes, .softmax = true}), x));
}

inline Tensor small_images(Index count = 2, std::uint64_t seed = 1) {
  return random_normal({count, 8, 8, 3}, seed).to(DType::f32);
}

/// Whether two tensors hold the same bits.
inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.spec() == b.spec() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

}  // namespace graft::test
