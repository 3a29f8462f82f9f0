#pragma once

#include "graft/autograd/tape.h"
#include "graft/core/binary.h"

namespace graft::ops {

/// a + b, element by element, with NumPy's broadcasting: shapes are aligned at the last axis, and an extent of 1 or a
/// missing axis is repeated. A gradient is summed over the axes that were repeated, in an order that depends on the
/// shapes alone.
///
/// a, b     shapes that broadcast, the same floating type
/// returns  the shape they are repeated to, the type of a
/// throws   Error if shapes or types do not fit
Tensor add(const Tensor& a, const Tensor& b);
/// a - b, as `add`.
Tensor subtract(const Tensor& a, const Tensor& b);
/// a b, as `add`.
Tensor multiply(const Tensor& a, const Tensor& b);
/// a / b, as `add`.
Tensor divide(const Tensor& a, const Tensor& b);

/// The op behind them. Inputs: a, b.
struct Arithmetic final : Op {
  Binary function;

  explicit Arithmetic(Binary f) : function(f) {}
  std::string_view name() const override { return graft::name(function); }
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  Saves saves(Slots wanted) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  std::shared_ptr<const Op> again() const override { return std::make_shared<Arithmetic>(*this); }
  Slots in_place() const override { return {0, 1}; }
  Slots gradient_in_place() const override {
    return function == Binary::add ? Slots{0, 1} : function == Binary::subtract ? Slots{0} : Slots{};
  }
  bool channel_ranges() const override { return true; }
};

}  // namespace graft::ops
