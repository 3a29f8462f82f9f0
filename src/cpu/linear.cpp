#include "kernels/linear.h"

#include "cpu/gemm.h"
#include "kernels/activation_math.h"

namespace graft::kernels::cpu {
namespace {

using graft::cpu::gemm;
using graft::cpu::Matrix;
using graft::cpu::put;

// Calls body with the types of the activations and of the weights, which are f32 masters beside halves or of the same type.
template <class Body>
void with_types(const Operand& x, const Operand& w, const Body& body) {
  dispatch_floating("linear", x.dtype, [&]<class T>(Type<T> type) {
    if (w.dtype == x.dtype) body(type, Type<T>{});
    else body(type, Type<Accumulator<T>>{});
  });
}

}  // namespace

void linear_forward(Context&, const Operand& x, const Operand& w, const Operand& bias, Activation activation, const Operand& y) {
  with_types(x, w, [&]<class T, class W>(Type<T>, Type<W>) {
    using Sum = Accumulator<T>;
    const Matrix<T> rows{x.as<T>(), x.pitch, 1};
    const Matrix<W, T> weights{w.as<W>(), 1, w.pitch};
    gemm<Sum>({.m = x.shape.rows(), .n = w.shape[0], .k = w.shape[1]}, [&](Index, Index) { return rows; }, [&](Index, Index) { return weights; },
              [&](Index, Index row, Index column, const Sum* sums, Index count) {
                T* to = y.as<T>() + row * y.pitch + column;
                for (Index i = 0; i < count; ++i) to[i] = convert<T>(activate(activation, sums[i] + (bias ? bias.as<Sum>()[column + i] : Sum(0))));
              });
  });
}

void linear_backward_input(Context&, const Operand& dz, const Operand& w, Gradient dx) {
  with_types(dz, w, [&]<class T, class W>(Type<T>, Type<W>) {
    using Sum = Accumulator<T>;
    const Matrix<T> slopes{dz.as<T>(), dz.pitch, 1};
    const Matrix<W, T> weights{w.as<W>(), w.pitch, 1};
    gemm<Sum>({.m = dz.shape.rows(), .n = w.shape[1], .k = w.shape[0]}, [&](Index, Index) { return slopes; }, [&](Index, Index) { return weights; },
              [&](Index, Index row, Index column, const Sum* sums, Index count) {
                put(dx.to.as<T>() + row * dx.to.pitch + column, sums, count, dx.accumulate);
              });
  });
}

void linear_backward_weight(Context&, const Operand& x, const Operand& dz, Gradient dw) {
  with_types(x, dw.to, [&]<class T, class W>(Type<T>, Type<W>) {
    using Sum = Accumulator<T>;
    const Matrix<T> slopes{dz.as<T>(), 1, dz.pitch};
    const Matrix<T> rows{x.as<T>(), x.pitch, 1};
    gemm<Sum>({.m = dw.to.shape[0], .n = dw.to.shape[1], .k = x.shape.rows()}, [&](Index, Index) { return slopes; }, [&](Index, Index) { return rows; },
              [&](Index, Index row, Index column, const Sum* sums, Index count) {
                put(dw.to.as<W>() + row * dw.to.pitch + column, sums, count, dw.accumulate);
              });
  });
}

}  // namespace graft::kernels::cpu
