#include <functional>

#include <gtest/gtest.h>

#include "graft/autograd/backward.h"
#include "graft/ops/conv2d.h"
#include "graft/ops/linear.h"
#include "graft/ops/matmul.h"

#include "support/op_check.h"

// That products are right with TF32 is checked case by case where they are tested; here, that it is used where it is
// allowed and nowhere else. A factor of 1 + 2^-12 is a float, and 1 in TF32.
namespace graft {
namespace {

constexpr double kFactor = 1 + 0x1p-12;

struct Products {
  std::string what;
  Shape a, b;
  std::function<Tensor(const Tensor&, const Tensor&)> product;
};

const std::vector<Products> kProducts{
    {"conv2d", {1, 4, 4, 8}, {8, 1, 1, 8}, [](const Tensor& x, const Tensor& w) { return ops::conv2d(x, w); }},
    {"linear", {16, 8}, {8, 8}, [](const Tensor& x, const Tensor& w) { return ops::linear(x, w); }},
    {"matmul", {16, 8}, {8, 8}, [](const Tensor& a, const Tensor& b) { return ops::matmul(a, b); }},
};

// The first number of the product and of both gradients, each a sum of products of kFactor, whose lengths follow.
std::vector<double> first_numbers(const Products& p, Device device, bool tf32, DType dtype) {
  ContextScope scope;
  scope->device = device;
  scope->engine = Engine::native;
  scope->allow_tf32 = tf32;
  Tensor a = Tensor::full(p.a, kFactor, dtype, device), b = Tensor::full(p.b, kFactor, dtype, device);
  a.set_requires_grad(true);
  b.set_requires_grad(true);
  const Tensor y = p.product(a, b);
  autograd::backward(y, {.seed = Tensor::full(y.shape(), kFactor, dtype, device)});
  std::vector<double> numbers;
  for (const Tensor& tensor : {y, a.grad(), b.grad()})
    numbers.push_back(tensor.to(Device{}).to(DType::f64).data<double>()[0]);
  return numbers;
}

TEST(Tf32, IsUsedWhereItIsAllowed) {
  const std::vector<double> lengths{8, 8, 16};
  for (const Device device : test::devices()) {
    for (const Products& p : kProducts) {
      const auto rounded = first_numbers(p, device, true, DType::f32),
                 exact = first_numbers(p, device, false, DType::f32),
                 of_doubles = first_numbers(p, device, true, DType::f64);
      for (std::size_t i = 0; i < lengths.size(); ++i) {
        const double want = lengths[i] * kFactor * kFactor;
        EXPECT_EQ(rounded[i], lengths[i]) << device.to_string() << ", " << p.what << ' ' << i;
        EXPECT_NEAR(exact[i], want, want * 0x1p-20) << device.to_string() << ", " << p.what << ' ' << i;
        EXPECT_NEAR(of_doubles[i], want, want * 0x1p-48) << device.to_string() << ", " << p.what << ' ' << i;
      }
    }
  }
}

TEST(Tf32, IsOffUnlessAsked) { EXPECT_FALSE(Context().allow_tf32); }

TEST(Tf32, ChangesNothingOnTheCpu) {
  for (const Products& p : kProducts)
    EXPECT_EQ(first_numbers(p, {}, true, DType::f32), first_numbers(p, {}, false, DType::f32)) << p.what;
}

}  // namespace
}  // namespace graft
