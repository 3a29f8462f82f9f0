#pragma once

#include "graft/autograd/tape.h"

namespace graft::ops {

/// Sets each element to 0 with probability `rate` and multiplies the others by 1 / (1 - rate), so that the expectation
/// stays (Srivastava et al., "Dropout", JMLR 2014). Which elements depends on the generator of the current Context,
/// whose counters are claimed; not on the number of threads.
///
/// x     any shape, a floating type, which the result shares
/// rate  in [0, 1); 0 gives x back
Tensor dropout(const Tensor& x, double rate);

/// The op behind `dropout`. Input: x. Besides the result it keeps where the random numbers began, from which backward
/// draws the mask again: two integers instead of a mask.
struct Dropout final : Op {
  double rate = 0;

  explicit Dropout(double probability) : rate(probability) {}
  std::string_view name() const override { return "dropout"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  Saves saves(Slots wanted) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  bool is_random() const override { return true; }
};

}  // namespace graft::ops
