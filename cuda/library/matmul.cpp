#include "kernels/matmul.h"

#include <algorithm>
#include <optional>

#include "kernels/joined_axes.h"
#include "kernels/matrices.h"
#include "library/product.h"

namespace graft::kernels::cublas {
namespace {

using namespace graft::cublas;

// None if products are summed over the batch, or if its matrices do not all lie the same distance apart.
std::optional<Product> product(const Operand& a, const Operand& b, bool transpose_a, bool transpose_b,
                               const Gradient& y) {
  const int axes = y.to.shape.rank() - 2;
  std::array<Index, Shape::kMaxRank> extents{};
  for (int axis = 0; axis < axes; ++axis) {
    extents[static_cast<std::size_t>(axis)] = y.to.shape[axis];
    if (y.to.shape[axis] != std::max(a.shape[axis], b.shape[axis])) return std::nullopt;
  }
  const Shape batch(std::span<const Index>(extents.data(), static_cast<std::size_t>(axes)));
  const Strided of_a = matrices(a, batch), of_b = matrices(b, batch), of_y = matrices(y.to, batch);
  const JoinedAxes<3> joined({&of_a, &of_b, &of_y});
  if (joined.rank > 1) return std::nullopt;
  const auto [step_a, step_b, step_y] = joined.strides[0];
  return Product{.a = a,
                 .b = b,
                 .transpose_a = transpose_a,
                 .transpose_b = transpose_b,
                 .rows = y.to.shape[-2],
                 .columns = y.to.shape[-1],
                 .depth = a.shape[transpose_a ? -2 : -1],
                 .batch = joined.extents[0],
                 .step_a = step_a,
                 .step_b = step_b,
                 .step_y = step_y,
                 .y = y};
}

}  // namespace

void matmul(Context& context, const Operand& a, const Operand& b, bool transpose_a, bool transpose_b, Gradient y) {
  const auto found = product(a, b, transpose_a, transpose_b, y);
  run(context, "cublas_matmul", *plan_for(context, *found), *found);
}
bool matmul_supports(const Context& context, const Operand& a, const Operand& b, bool transpose_a, bool transpose_b,
                     Gradient y) {
  const auto found = product(a, b, transpose_a, transpose_b, y);
  return found && plan_for(context, *found) != nullptr;
}

}  // namespace graft::kernels::cublas
