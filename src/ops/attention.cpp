#include "graft/ops/attention.h"

#include <array>
#include <cmath>

#include "kernels/attention.h"
#include "ops/support.h"

namespace graft::ops {
namespace {

// Third `part` of the channels of qkv, where it lies.
Operand third(const Operand& qkv, Index part) {
  Operand result = qkv;
  const Index channels = qkv.shape[2] / 3;
  result.shape = qkv.shape.with(2, channels);
  if (qkv)
    result.data = static_cast<std::byte*>(qkv.data) + static_cast<std::size_t>(part * channels) * size_of(qkv.dtype);
  return result;
}

std::array<Operand, 3> split(const Attention& op, std::span<const Operand> in) {
  if (op.packed) return {third(in[0], 0), third(in[0], 1), third(in[0], 2)};
  return {in[0], in[1], in[2]};
}

double scale_of(const Attention& op, const Operand& q) {
  const Index depth = q.shape[2] / op.options.heads;
  return op.options.scale != 0 ? op.options.scale : 1 / std::sqrt(static_cast<double>(depth));
}

}  // namespace

std::string Attention::attributes() const {
  std::string text = fmt::format("{} heads", options.heads);
  if (options.scale != 0) text += fmt::format(", scale {}", options.scale);
  return packed ? text + ", packed" : text;
}

std::vector<Spec> Attention::infer(std::span<const Spec> in) const {
  const Spec& q = in[0];
  check(is_floating(q.dtype), "[attention] needs a floating type, got {}", q.dtype);
  check(q.shape.rank() == 3, "[attention] expected [N, L, channels], got {}", q.shape);
  const Index parts = packed ? 3 : 1, channels = q.shape[2] / parts;
  check(options.heads > 0 && channels > 0 && q.shape[2] % (parts * options.heads) == 0,
        "[attention] {} heads do not divide {} channels{}", options.heads, q.shape[2],
        packed ? " of q, k and v together" : "");
  if (!packed) {
    const Spec &k = in[1], &v = in[2];
    check(k.shape.rank() == 3 && k.shape.with(1, q.shape[1]) == q.shape && v.shape == k.shape,
          "[attention] expected k and v [N, Lk, channels] beside q {}, got {} and {}", q.shape, k.shape, v.shape);
    check(k.shape[1] > 0, "[attention] there is no key to attend to: k is {}", k.shape);
    check(k.dtype == q.dtype && v.dtype == q.dtype, "[attention] expected q, k and v of one type, got {}, {} and {}",
          q.dtype, k.dtype, v.dtype);
  }
  return {{q.shape.with(2, channels), q.dtype}, {{q.shape[0], options.heads, q.shape[1]}, exact(q.dtype)}};
}

void Attention::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  const auto [q, k, v] = split(*this, in);
  kernels::attention_forward(context, options.heads, scale_of(*this, q), q, k, v, out[0], out[1]);
}

// The weights are made from q, k and the log-sums; v and y are read only for the gradients of the scores.
Saves Attention::saves(Slots wanted) const {
  if (packed) return {.inputs = {0}, .outputs = {0, 1}};
  if (wanted.has(0) || wanted.has(1)) return {.inputs = {0, 1, 2}, .outputs = {0, 1}};
  return {.inputs = {0, 1}, .outputs = {1}};
}

void Attention::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                         std::span<const Gradient> dx) const {
  const auto [q, k, v] = split(*this, saved.inputs);
  std::array<Gradient, 3> to;
  for (std::size_t i = 0; i < 3; ++i) {
    if (!packed)
      to[i] = dx[i];
    else if (dx[0])
      to[i] = {third(dx[0].to, static_cast<Index>(i)), dx[0].accumulate};
  }
  kernels::attention_backward(context, options.heads, scale_of(*this, q), q, k, v, saved.outputs[0], saved.outputs[1],
                              dy[0], to[0], to[1], to[2]);
}

double Attention::operations(std::span<const Spec> in, std::span<const Spec> out) const {
  const Index keys = packed ? in[0].shape[1] : in[1].shape[1];
  return 4.0 * static_cast<double>(out[0].shape.elements()) * static_cast<double>(keys);  // q k^T and p v
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  return autograd::apply(Attention(options, false), {q, k, v});
}
Tensor attention(const Tensor& qkv, const AttentionOptions& options) {
  return autograd::apply(Attention(options, true), {qkv});
}

}  // namespace graft::ops
