#include "device/sum.h"
#include "device/unroll.h"
#include "kernels/elementwise.h"
#include "kernels/strided.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

template <class S>
__device__ S combine(Binary function, S a, S b) {
  switch (function) {
    case Binary::add:
      return a + b;
    case Binary::subtract:
      return a - b;
    case Binary::multiply:
      return a * b;
    case Binary::divide:
      return a / b;
  }
  return a;
}

// Two numbers are read and one written for one operation: the kernel runs at the speed of memory.
template <int N, class T>
__global__ void binary_kernel(Binary function, DividedAxes<3> axes, Index count, const T* a, const T* b, T* y) {
  for (Index i = first_index(); i < count; i += index_stride()) {
    const auto [at_y, at_a, at_b] = axes.offsets(i);
    const Vector<T, N> left = load<N>(a + at_a), right = load<N>(b + at_b);
    Accumulator<T> values[N];
    GRAFT_UNROLL
    for (int k = 0; k < N; ++k) values[k] = combine(function, widen(left[k]), widen(right[k]));
    put(y + at_y, values, false);
  }
}

// dy times d(a op b)/da or d(a op b)/db, of the operands that the function's slope reads.
template <class T>
struct Slope {
  Binary function;
  bool of_b;
  const T *dy, *a, *b;

  __device__ Accumulator<T> operator()(const std::array<Index, 3>& at) const {
    using Sum = Accumulator<T>;
    const Sum g = widen(dy[at[0]]);
    switch (function) {
      case Binary::add:
        return g;
      case Binary::subtract:
        return of_b ? -g : g;
      case Binary::multiply:
        return g * widen(of_b ? a[at[1]] : b[at[2]]);
      case Binary::divide: {
        const Sum divisor = widen(b[at[2]]);
        return of_b ? -g * widen(a[at[1]]) / (divisor * divisor) : g / divisor;
      }
    }
    return g;
  }
};

}  // namespace

void binary_forward(Context& context, Binary function, const Operand& a, const Operand& b, const Operand& y) {
  dispatch_floating("arithmetic", y.dtype, [&]<class T>(Type<T>) {
    const Strided to(y), from_a = Strided(a).broadcast(y.shape), from_b = Strided(b).broadcast(y.shape);
    with_axes<T, 3>({&to, &from_a, &from_b}, [&]<int N>(std::integral_constant<int, N>, const DividedAxes<3>& axes) {
      launch(context, "binary", grid_for(axes.elements()), binary_kernel<N, T>, function, axes, axes.elements(),
             a.as<T>(), b.as<T>(), y.as<T>());
    });
  });
}

void binary_backward(Context& context, Binary function, const Operand& a, const Operand& b, const Operand& dy,
                     Gradient da, Gradient db) {
  dispatch_floating("arithmetic", dy.dtype, [&]<class T>(Type<T>) {
    const auto sum = [&](Gradient to, bool of_b) {
      // dy stands in for an operand that the slope does not read, and that may not be there.
      const Strided reads_a = Strided(a ? a : dy).broadcast(dy.shape),
                    reads_b = Strided(b ? b : dy).broadcast(dy.shape);
      const int added = dy.shape.rank() - to.to.shape.rank();
      unsigned reduced = 0;
      for (int axis = 0; axis < dy.shape.rank(); ++axis) {
        const bool repeated = axis < added || (to.to.shape[axis - added] == 1 && dy.shape[axis] != 1);
        reduced |= repeated ? 1u << axis : 0u;
      }
      if (reduced == 0 && (function == Binary::add || function == Binary::subtract)) {
        Operand there = to.to;
        there.shape = dy.shape;
        return copy(context, dy, there, function == Binary::subtract && of_b ? -1 : 1, to.accumulate);
      }
      sum_terms<T>(context, "binary_backward", SumAxes<3>({Strided(dy), reads_a, reads_b}, reduced),
                   Slope<T>{function, of_b, dy.as<T>(), a.as<T>(), b.as<T>()}, Accumulator<T>(1), to);
    };
    if (da) sum(da, false);
    if (db) sum(db, true);
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
