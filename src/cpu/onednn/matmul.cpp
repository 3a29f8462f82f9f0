#include "kernels/matmul.h"

#include <algorithm>

#include "cpu/onednn/engine.h"

namespace graft::kernels::onednn {
namespace {

struct Plan {
  Step step;
  memory::desc a, b, y;
};

PlanCache<Plan>& plans() {
  static PlanCache<Plan> cache;
  return cache;
}

// The matrices as they take part in the product: transposed by their strides.
memory::desc matrices(const Operand& x, bool transpose) {
  const auto rank = static_cast<std::size_t>(x.shape.rank());
  memory::dims dims(x.shape.begin(), x.shape.end()), strides(rank, 1);
  strides[rank - 2] = x.pitch;
  for (std::size_t i = rank - 2; i > 0; --i) strides[i - 1] = strides[i] * dims[i];
  if (transpose) {
    std::swap(dims[rank - 1], dims[rank - 2]);
    std::swap(strides[rank - 1], strides[rank - 2]);
  }
  return {dims, type(x.dtype), strides};
}

// oneDNN repeats a matrix of a or b over the batch, but does not sum products over it.
bool sums_products(const Operand& a, const Operand& b, const Operand& y) {
  for (int axis = 0; axis < y.shape.rank() - 2; ++axis) {
    if (y.shape[axis] != std::max(a.shape[axis], b.shape[axis])) return true;
  }
  return false;
}

std::shared_ptr<const Plan> plan(const Operand& a, const Operand& b, bool transpose_a, bool transpose_b,
                                 const Gradient& y) {
  if (!computes(a.dtype) || a.elements() == 0 || b.elements() == 0 || sums_products(a, b, y.to)) return nullptr;
  Key key{transpose_a, transpose_b, y.accumulate};
  for (const Operand& operand : {a, b, y.to}) {
    key.push_back(operand.shape.rank());
    key.insert(key.end(), operand.shape.begin(), operand.shape.end());
    append(key, operand);
  }
  return plans().get(key, [&]() -> std::shared_ptr<const Plan> {
    dnnl::post_ops ops;
    if (y.accumulate) ops.append_sum(1);
    const memory::desc left = matrices(a, transpose_a), right = matrices(b, transpose_b),
                       result = matrices(y.to, false);
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(left, right, result), attributes(ops), engine());
    if (!is_fast(description)) return nullptr;
    return std::make_shared<const Plan>(Plan{Step(description), left, right, result});
  });
}

}  // namespace

bool matmul_supports(const Context&, const Operand& a, const Operand& b, bool transpose_a, bool transpose_b,
                     Gradient y) {
  return plan(a, b, transpose_a, transpose_b, y) != nullptr;
}

void matmul(Context&, const Operand& a, const Operand& b, bool transpose_a, bool transpose_b, Gradient y) {
  const auto found = plan(a, b, transpose_a, transpose_b, y);
  found->step.run({{DNNL_ARG_SRC, at(found->a, a.data)},
                   {DNNL_ARG_WEIGHTS, at(found->b, b.data)},
                   {DNNL_ARG_DST, at(found->y, y.to.data)}});
}

}  // namespace graft::kernels::onednn
