// What the products of a step have to do at least: the roofline that its time is a share of.
#pragma once

#include <vector>

#include "graft/nn/network.h"

namespace graft {

/// A convolution, matrix product or attention: of the forward pass, or one of the two of its backward.
struct Product {
  double operations = 0;  ///< multiplications and additions
  double bytes = 0;       ///< of its operands and its result, each moved once
};

/// The products of a step for inputs [N, H, W, C] of `dtype`, in order of the forward pass. What stands between them
/// counts as nothing, for it can be computed as a product's result is written or its operand read.
///
/// With `training`, the gradients of inputs and weights come too where they are asked for, and a product that nothing
/// trainable stands before is left out: it can be computed once for all steps.
std::vector<Product> products(nn::Network& network, const Shape& input, DType dtype, bool training);

}  // namespace graft
