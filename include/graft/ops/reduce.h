#pragma once

#include "graft/autograd/tape.h"

namespace graft::ops {

struct ReduceOptions {
  std::vector<int> axes = {};  ///< negative ones count from the end; none means all
  bool keep_dims = false;      ///< leaves the axes in place with extent 1
};

/// Sum of the elements along some axes. The halves are summed in f32. A sum over nothing is 0.
///
/// x        any shape, a floating type
/// returns  x's shape without the axes (a scalar if all are summed), x's type
/// throws   Error for an axis that is not there or given twice
Tensor sum(const Tensor& x, const ReduceOptions& options = {});

/// Mean of the elements along some axes, as `sum`. A mean over nothing is 0 too.
Tensor mean(const Tensor& x, const ReduceOptions& options = {});

/// The op behind them. Input: x.
struct Reduce final : Op {
  enum class Function : std::uint8_t { sum, mean };

  Function function;
  ReduceOptions options;

  Reduce(Function f, ReduceOptions o) : function(f), options(std::move(o)) {}
  std::string_view name() const override { return function == Function::sum ? "sum" : "mean"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;
};

}  // namespace graft::ops
