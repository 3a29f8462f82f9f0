#include "dense.h"
#include "kernels/matmul.h"
#include "kernels/matrices.h"

namespace graft::kernels::GRAFT_TARGET {

void matmul(Context& context, const Operand& a, const Operand& b, bool transpose_a, bool transpose_b, Gradient y) {
  // A batch axis that y has is one of products, the others are terms of each.
  std::array<Index, Shape::kMaxRank> products{}, terms{};
  const auto axes = static_cast<std::size_t>(y.to.shape.rank() - 2);
  for (std::size_t i = 0; i < axes; ++i) {
    const int axis = static_cast<int>(i);
    const Index extent = a.shape[axis] == 1 ? b.shape[axis] : a.shape[axis];
    products[i] = y.to.shape[axis];
    terms[i] = products[i] == extent ? 1 : extent;
  }
  const Shape of_products{std::span<const Index>(products.data(), axes)},
      of_terms{std::span<const Index>(terms.data(), axes)};
  const Strided a_of_product = matrices(a, of_products), b_of_product = matrices(b, of_products),
                y_of_product = matrices(y.to, of_products), a_of_term = matrices(a, of_terms),
                b_of_term = matrices(b, of_terms);
  dense_product(context, "matmul",
                {.a = a,
                 .b = b,
                 .transpose_a = transpose_a,
                 .transpose_b = transpose_b,
                 .rows = y.to.shape[-2],
                 .columns = y.to.shape[-1],
                 .depth = a.shape[transpose_a ? -2 : -1],
                 .products = JoinedAxes<3>({&a_of_product, &b_of_product, &y_of_product}),
                 .terms = JoinedAxes<2>({&a_of_term, &b_of_term}),
                 .to = y});
}

}  // namespace graft::kernels::GRAFT_TARGET
