#include "device/sum.h"
#include "kernels/reduce.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

template <class T>
struct Element {
  const T* x;
  __device__ Accumulator<T> operator()(const std::array<Index, 1>& at) const { return widen(x[at[0]]); }
};

}  // namespace

void sum_rows(Context& context, const Operand& x, Gradient y) {
  dispatch_weighted("sum_rows", x.dtype, y.to.dtype, [&]<class T, class W>(Type<T>, Type<W>) {
    const unsigned all_but_last = (1u << (x.shape.rank() - 1)) - 1;
    sum_terms<W>(context, "sum_rows", SumAxes<1>({x}, all_but_last), Element<T>{x.as<T>()}, Accumulator<T>(1), y);
  });
}

void sum_to(Context& context, const Operand& x, double scale, Gradient y) {
  dispatch_floating("sum", x.dtype, [&]<class T>(Type<T>) {
    unsigned reduced = 0;
    for (int axis = 0; axis < x.shape.rank(); ++axis) reduced |= y.to.shape[axis] == 1 ? 1u << axis : 0u;
    sum_terms<T>(context, "sum_to", SumAxes<1>({x}, reduced), Element<T>{x.as<T>()}, static_cast<Accumulator<T>>(scale),
                 y);
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
