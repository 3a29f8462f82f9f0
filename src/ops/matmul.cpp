#include "graft/ops/matmul.h"

#include "kernels/matmul.h"
#include "ops/support.h"

namespace graft::ops {
namespace {

Shape batch_of(const Shape& shape) { return Shape(std::span<const Index>(shape.begin(), shape.end() - 2)); }

// The operand with axes of extent 1 in front, until it has the rank of the result.
Operand aligned(const Operand& operand, int rank) {
  std::vector<Index> extents(static_cast<std::size_t>(rank - operand.shape.rank()), 1);
  extents.insert(extents.end(), operand.shape.begin(), operand.shape.end());
  Operand result = operand;
  result.shape = Shape(std::span<const Index>(extents));
  return result;
}

}  // namespace

std::string Matmul::attributes() const {
  if (options.transpose_a && options.transpose_b) return "both transposed";
  return options.transpose_a ? "a transposed" : options.transpose_b ? "b transposed" : "";
}

std::vector<Spec> Matmul::infer(std::span<const Spec> in) const {
  const Shape &a = in[0].shape, &b = in[1].shape;
  check(a.rank() >= 2 && b.rank() >= 2, "[matmul] expected matrices [..., M, K] and [..., K, N], got {} and {}", a, b);
  const Index m = a[options.transpose_a ? -1 : -2], k = a[options.transpose_a ? -2 : -1];
  const Index n = b[options.transpose_b ? -2 : -1], rows = b[options.transpose_b ? -1 : -2];
  check(k == rows, "[matmul] {} and {} do not fit: the inner extents are {} and {}", a, b, k, rows);
  check(is_floating(in[0].dtype) && in[0].dtype == in[1].dtype,
        "[matmul] expected two operands of one floating type, got {} and {}", in[0].dtype, in[1].dtype);
  const Shape batch = broadcast(name(), batch_of(a), batch_of(b));
  std::vector<Index> extents(batch.begin(), batch.end());
  extents.insert(extents.end(), {m, n});
  return {{Shape(std::span<const Index>(extents)), in[0].dtype}};
}

void Matmul::forward(Context& context, std::span<const Operand> in, std::span<const Operand> out) const {
  const int rank = out[0].shape.rank();
  kernels::matmul(context, aligned(in[0], rank), aligned(in[1], rank), options.transpose_a, options.transpose_b,
                  {out[0], false});
}

Saves Matmul::saves(Slots wanted) const {
  Saves saves;
  if (wanted.has(0)) saves.inputs.add(1);
  if (wanted.has(1)) saves.inputs.add(0);
  return saves;
}

// For y = A B: dA = dy B^T and dB = A^T dy. An operand that is stored transposed gets the transpose of that: dA^T = B
// dy^T and dB^T = dy^T A. Products of a repeated operand are summed by the kernel.
void Matmul::backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                      std::span<const Gradient> dx) const {
  const int rank = dy[0].shape.rank();
  const auto& [ta, tb] = options;
  const Operand a = aligned(saved.inputs[0], rank), b = aligned(saved.inputs[1], rank);
  const auto to = [rank](const Gradient& gradient) {
    return Gradient{aligned(gradient.to, rank), gradient.accumulate};
  };
  if (dx[0] && !ta) kernels::matmul(context, dy[0], b, false, !tb, to(dx[0]));
  if (dx[0] && ta) kernels::matmul(context, b, dy[0], tb, true, to(dx[0]));
  if (dx[1] && !tb) kernels::matmul(context, a, dy[0], !ta, false, to(dx[1]));
  if (dx[1] && tb) kernels::matmul(context, dy[0], a, true, ta, to(dx[1]));
}

double Matmul::operations(std::span<const Spec> in, std::span<const Spec> out) const {
  return 2.0 * static_cast<double>(out[0].shape.elements()) *
         static_cast<double>(in[0].shape[options.transpose_a ? -2 : -1]);
}

Tensor matmul(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  return autograd::apply(Matmul(options), {a, b});
}

}  // namespace graft::ops
