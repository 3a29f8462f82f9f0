// Which kernels attention is made of on a device, and what only those of halves could get wrong. tests/ops compares all
// of them with the CPU's.

#include "graft/ops/attention.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graft/autograd/backward.h"

#include "runtime/launches.h"
#include "support/op_check.h"

namespace graft {
namespace {

using test::random_normal;

// Launches of attention forward and backward with q, k and v of [2, 5, depth], beginning `shift` elements into memory.
std::map<std::string, std::int64_t> launches(Device device, DType dtype, Index depth, Index shift) {
  ContextScope scope;
  scope->engine = Engine::native;
  const Tensor values = random_normal({1 + 2 * 5 * 3 * depth}, 1).to(dtype).to(device);
  Tensor qkv = values.rows(shift, 2 * 5 * 3 * depth).reshaped({2, 5, 3 * depth});
  qkv.set_requires_grad(true);
  reset_launch_counts();
  autograd::backward(ops::attention(qkv, {.heads = 1}), {.seed = Tensor::full({2, 5, depth}, 1, dtype, device)});
  std::map<std::string, std::int64_t> counts;
  for (const auto& [name, count] : launch_counts()) {
    if (name.find("attention") != std::string::npos) counts.emplace(name, count);
  }
  return counts;
}

TEST(DeviceAttention, HalvesInVectorsTakeTensorCores) {
  using Counts = std::map<std::string, std::int64_t>;
  const Counts halves{
      {"attention_halves", 1}, {"attention_along", 1}, {"attention_halves_dq", 1}, {"attention_halves_dk_dv", 1}},
      general{{"attention", 1}, {"attention_along", 1}, {"attention_dq", 1}, {"attention_dk", 1}, {"attention_dv", 1}};
  for (const Device device : test::devices()) {
    for (const DType dtype : {DType::bf16, DType::f16}) {
      EXPECT_EQ(launches(device, dtype, 8, 0), halves);
      EXPECT_EQ(launches(device, dtype, 128, 0), halves);
      EXPECT_EQ(launches(device, dtype, 136, 0), general);  // deeper than a tile
      EXPECT_EQ(launches(device, dtype, 12, 0), general);   // no vectors in a row
      EXPECT_EQ(launches(device, dtype, 8, 1), general);    // nor where rows begin anywhere
    }
    EXPECT_EQ(launches(device, DType::f32, 8, 0), general);
  }
}

// Scores of 100 and more, whose exponentials would overflow: the largest takes everything. A NaN stays in its row.
TEST(DeviceAttention, OfHalvesDoesNotOverflow) {
  for (const Device device : test::devices()) {
    ContextScope scope;
    scope->engine = Engine::native;
    Tensor q = Tensor::full({1, 2, 8}, 8), k = Tensor::full({1, 70, 8}, 8), v = Tensor::full({1, 70, 8}, 1);
    for (Index c = 0; c < 8; ++c) {
      k.mutable_data<float>()[69 * 8 + c] = 24;
      v.mutable_data<float>()[69 * 8 + c] = 5;
    }
    q.mutable_data<float>()[8] = std::nanf("");
    const auto on = [&](const Tensor& x) { return x.to(DType::bf16).to(device); };
    const Tensor y = ops::attention(on(q), on(k), on(v)).to(Device{}).to(DType::f32);
    for (Index c = 0; c < 8; ++c) {
      EXPECT_EQ(y.data<float>()[c], 5);
      EXPECT_TRUE(std::isnan(y.data<float>()[8 + c]));
    }
  }
}

}  // namespace
}  // namespace graft
