#pragma once

#include <functional>
#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "graft/autograd/op.h"
#include "graft/core/tensor.h"

namespace graft::test {

/// One row of an op's table of cases.
struct OpCase {
  std::string what;
  std::shared_ptr<const Op> op;
  std::vector<Tensor> inputs = {};  ///< in f64, or an integer type for operands without a gradient
  /// True for ops whose results are sums of products of their inputs: their error is bounded by the length of the sums
  /// times the sum of absolute products, which is what the op gives on absolute values. Others are compared on the
  /// scale of their largest result.
  bool sum_of_products = false;
  /// Longest sum behind one number, in results and in gradients.
  Index sum_length = 1;
  /// Inputs whose gradient is not defined (integer labels, moving statistics).
  Slots constant = {};
  /// Inputs that keep their exact type (f32) when the others become halves: bias, gamma, statistics.
  Slots exact = {};
  /// True for products that Context::allow_tf32 lets a device compute from rounded factors: that is checked too.
  bool tf32 = false;
};

/// The devices beside the CPU that this build and this machine have; or those that GRAFT_TEST_DEVICES names (`cuda`, or
/// several with commas between), each of which must be there: what is to be proved on a GPU must not pass without one.
std::vector<Device> devices();

/// Normal numbers, the same for the same seed.
Tensor random_normal(const Shape& shape, std::uint64_t seed, double scale = 1, double shift = 0);
/// A shuffled ladder -n/2 .. n/2 times `step`, without zero: for ops with kinks and ties.
Tensor distinct(const Shape& shape, std::uint64_t seed, double step = 0.01);

/// Every gradient of the op against central differences in f64 on the native engine: each input by itself and all
/// together; destinations poisoned with NaN before they are overwritten, and accumulated into; operands that the op
/// does not ask to be saved are absent.
void check_gradients(const OpCase& c);

/// Every engine of every device in every floating type against the native one in f64 on the same rounded inputs,
/// forward and backward. GRAFT_TEST_LIBRARY=0 leaves out a GPU's library engine, whose kernels are not graft's to
/// search for mistakes and take cuDNN minutes to compile.
void check_engines(const OpCase& c);

/// What gtest writes beside the number of a case.
void PrintTo(const OpCase& c, std::ostream* to);

/// An op's table of cases: INSTANTIATE_TEST_SUITE_P(Softmax, OpTable, testing::ValuesIn(table())) runs check_gradients
/// and check_engines on each, as tests of their own, so that processes can share them out.
class OpTable : public testing::TestWithParam<OpCase> {};

}  // namespace graft::test
