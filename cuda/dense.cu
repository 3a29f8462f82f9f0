#include "dense.h"
#include "device/gemm_choice.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

struct DenseBatch {
  JoinedAxes<3> products;
  JoinedAxes<2> terms;

  __device__ Bases operator()(int product, int term) const {
    const auto [a, b, c] = offsets(products, product);
    const auto [more_a, more_b] = offsets(terms, term);
    return {a + more_a, b + more_b, c};
  }
  std::optional<hopper::BatchSteps> steps() const {
    if (products.rank > 1 || terms.rank > 1) return std::nullopt;
    const auto [a, b, c] = products.strides[0];
    const auto [term_a, term_b] = terms.strides[0];
    return hopper::BatchSteps{a, b, c, term_a, term_b};
  }

 private:
  // JoinedAxes::offsets with 32-bit divisions: a GPU's 64-bit division is a call, which no loop over tiles can afford.
  template <std::size_t K>
  __device__ static std::array<Index, K> offsets(const JoinedAxes<K>& axes, int at) {
    std::array<Index, K> result{};
    for (int axis = 0; axis < axes.rank && at > 0; ++axis) {
      const auto i = static_cast<std::size_t>(axis);
      const auto extent = static_cast<int>(axes.extents[i]);
      const int position = at % extent;
      at /= extent;
      for (std::size_t k = 0; k < K; ++k) result[k] += position * axes.strides[i][k];
    }
    return result;
  }
};

// Whether all matrices that a batch has of one operand begin at multiples of `n` elements.
template <std::size_t K>
bool multiples(const JoinedAxes<K>& axes, std::size_t operand, int n) {
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(axes.rank); ++axis) {
    if (axes.extents[axis] > 1 && axes.strides[axis][operand] % n != 0) return false;
  }
  return true;
}

template <class T, class To, bool TransposeA, bool TransposeB>
void multiply(Context& context, const char* name, const DenseProduct& d) {
  using A = Dense<T, !TransposeA>;
  using B = Dense<T, TransposeB>;
  constexpr int n = kVector<T>, n_to = kVector<To>;
  const auto rows = static_cast<int>(d.rows), columns = static_cast<int>(d.columns), depth = static_cast<int>(d.depth);
  const bool wide = aligned<T>(d.a.data, d.a.pitch, n) && (TransposeA ? rows : depth) % n == 0 &&
                    aligned<T>(d.b.data, d.b.pitch, n) && (TransposeB ? depth : columns) % n == 0 &&
                    multiples(d.products, 0, n) && multiples(d.products, 1, n) && multiples(d.terms, 0, n) &&
                    multiples(d.terms, 1, n);
  gemm(context, name,
       Product<A, B, DenseBatch, Epilogue<To>>{
           .a = {d.a.as<T>(), d.a.pitch, rows, depth},
           .b = {d.b.as<T>(), d.b.pitch, columns, depth},
           .batch = {d.products, d.terms},
           .epilogue = {.y = d.to.to.as<To>(),
                        .pitch = d.to.to.pitch,
                        .grid = {},
                        .bias = static_cast<const Accumulator<To>*>(d.bias),
                        .activation = d.activation,
                        .accumulate = d.to.accumulate,
                        .vectors = aligned<To>(d.to.to.data, d.to.to.pitch, n_to) && columns % n_to == 0 &&
                                   multiples(d.products, 2, n_to)},
           .rows = rows,
           .columns = columns,
           .depth = depth,
           .products = static_cast<int>(d.products.elements()),
           .terms = static_cast<int>(d.terms.elements())},
       wide);
}

}  // namespace

void dense_product(Context& context, const char* name, const DenseProduct& d) {
  dispatch_floating(name, d.a.dtype, [&]<class T>(Type<T>) {
    if (d.transpose_a && d.transpose_b) return multiply<T, T, true, true>(context, name, d);
    if (d.transpose_b) return multiply<T, T, false, true>(context, name, d);
    if (!d.transpose_a) return multiply<T, T, false, false>(context, name, d);
    if (d.to.to.dtype == d.a.dtype) return multiply<T, T, true, false>(context, name, d);
    multiply<T, Accumulator<T>, true, false>(context, name, d);  // the gradient of a weight beside halves
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
