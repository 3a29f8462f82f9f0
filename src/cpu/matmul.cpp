#include "kernels/matmul.h"

#include "core/dtype_dispatch.h"
#include "cpu/gemm.h"

namespace graft::kernels::cpu {
namespace {

using graft::cpu::Matrix;

// Which matrix of `operand` takes part in each product of a batch.
std::vector<Index> matrix_of(const Operand& operand, const Shape& batch) {
  const auto count = static_cast<std::size_t>(batch.elements());
  std::vector<Index> indices(count);
  for (std::size_t i = 0; i < count; ++i) {
    auto rest = static_cast<Index>(i);
    Index stride = 1;
    for (int axis = batch.rank() - 1; axis >= 0; --axis) {
      const Index position = rest % batch[axis];
      rest /= batch[axis];
      if (operand.shape[axis] != 1) indices[i] += position * stride;
      stride *= operand.shape[axis];
    }
  }
  return indices;
}

template <class T>
Matrix<T> matrix(const Operand& operand, Index index, bool transpose) {
  const Matrix<T> stored{operand.as<T>() + index * operand.shape[-2] * operand.pitch, operand.pitch, 1};
  return transpose ? stored.transposed() : stored;
}

}  // namespace

void matmul(Context&, const Operand& a, const Operand& b, bool transpose_a, bool transpose_b, Gradient y) {
  const Shape& to = y.to.shape;
  std::vector<Index> extents;
  Index products = 1, pairs = 1;
  for (int axis = 0; axis < to.rank() - 2; ++axis) {
    extents.push_back(a.shape[axis] == 1 ? b.shape[axis] : a.shape[axis]);
    products *= to[axis];
    pairs *= extents.back();
  }
  const Shape batch{std::span<const Index>(extents)};
  const std::vector<Index> of_a = matrix_of(a, batch), of_b = matrix_of(b, batch), of_y = matrix_of(y.to, batch);
  std::vector<std::vector<std::size_t>> terms(
      static_cast<std::size_t>(products));  // the pairs whose product goes into each matrix of y
  for (std::size_t pair = 0; pair < of_y.size(); ++pair) terms[static_cast<std::size_t>(of_y[pair])].push_back(pair);
  const auto pair = [&](Index product, Index term) {
    return terms[static_cast<std::size_t>(product)][static_cast<std::size_t>(term)];
  };

  dispatch_floating("matmul", a.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const graft::cpu::GemmSize size{.m = to[-2],
                                    .n = to[-1],
                                    .k = a.shape[transpose_a ? -2 : -1],
                                    .products = products,
                                    .terms = products == 0 ? 0 : pairs / products};
    graft::cpu::gemm<Sum>(
        size, [&](Index product, Index term) { return matrix<T>(a, of_a[pair(product, term)], transpose_a); },
        [&](Index product, Index term) { return matrix<T>(b, of_b[pair(product, term)], transpose_b); },
        [&](Index product, Index row, Index column, const Sum* sums, Index count) {
          graft::cpu::put(y.to.as<T>() + (product * to[-2] + row) * y.to.pitch + column, sums, count, y.accumulate);
        });
  });
}

}  // namespace graft::kernels::cpu
