#pragma once

#include "graft/autograd/tape.h"

namespace graft::ops {

struct AttentionOptions {
  Index heads = 1;   ///< channels are cut into so many equal parts, each attending by itself
  double scale = 0;  ///< of the scores; 0 means 1 / sqrt(d), with d channels a head
};

/// Multi-head scaled dot-product attention (Vaswani et al., "Attention Is All You Need", 2017): for each head y =
/// softmax(scale q k^T) v, without the projections around it. Memory grows with the length, not with its square: scores
/// are made block by block, and again in backward.
///
/// q        [N, Lq, heads d], f32, bf16, f16 or f64
/// k, v     [N, Lk, heads d], the type of q, Lk at least 1
/// returns  [N, Lq, heads d], the type of q
/// throws   Error if shapes or types do not fit, or heads do not divide the channels
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options = {});

/// The same for q, k and v side by side in the channels, as one linear layer makes them: qkv [N, L, 3 heads d] gives
/// [N, L, heads d]. Nothing is copied apart.
Tensor attention(const Tensor& qkv, const AttentionOptions& options = {});

/// The op behind both. Inputs: q, k, v, or qkv if `packed`. Besides the result it keeps log(sum of exp(score)) of each
/// query and head, [N, heads, Lq].
struct Attention final : Op {
  AttentionOptions options;
  bool packed = false;

  Attention(const AttentionOptions& o, bool qkv) : options(o), packed(qkv) {}
  std::string_view name() const override { return "attention"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  Saves saves(Slots wanted) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const override;
};

}  // namespace graft::ops
