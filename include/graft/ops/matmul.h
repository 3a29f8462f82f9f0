#pragma once

#include "graft/autograd/tape.h"

namespace graft::ops {

struct MatmulOptions {
  bool transpose_a = false;  ///< a holds [..., K, M]
  bool transpose_b = false;  ///< b holds [..., N, K]
};

/// Products of matrices in the last two axes. The axes before are a batch, in which an extent of 1 or a missing axis is
/// repeated.
///
/// a        [..., M, K], a floating type
/// b        [..., K, N], the type of a
/// returns  [..., M, N], the type of a
/// throws   Error if shapes or types do not fit
Tensor matmul(const Tensor& a, const Tensor& b, const MatmulOptions& options = {});

/// The op behind `matmul`. Inputs: a, b.
struct Matmul final : Op {
  MatmulOptions options;

  explicit Matmul(const MatmulOptions& o = {}) : options(o) {}
  std::string_view name() const override { return "matmul"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  Saves saves(Slots wanted) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;
};

}  // namespace graft::ops
