#include "kernels/linear.h"

#include "cpu/activate_row.h"
#include "cpu/gemm.h"

namespace graft::kernels::cpu {

using graft::cpu::gemm;
using graft::cpu::Matrix;
using graft::cpu::put;

void linear_forward(Context&, const Operand& x, const Operand& w, const Operand& bias, Activation activation,
                    const Operand& y) {
  dispatch_weighted("linear", x.dtype, w.dtype, [&]<class T, class W>(Type<T>, Type<W>) {
    using Sum = Accumulator<T>;
    const Matrix<T> rows{x.as<T>(), x.pitch, 1};
    const Matrix<W, T> weights{w.as<W>(), 1, w.pitch};
    gemm<Sum>(
        {.m = x.shape.rows(), .n = w.shape[0], .k = w.shape[1]}, [&](Index, Index) { return rows; },
        [&](Index, Index) { return weights; },
        [&](Index, Index row, Index column, Sum* sums, Index count) {
          if (bias) graft::cpu::add_scaled(sums, Sum(1), bias.as<Sum>() + column, count);
          graft::cpu::activate_row(activation, sums, count);
          put(y.as<T>() + row * y.pitch + column, sums, count, false);
        });
  });
}

void linear_backward_input(Context&, const Operand& dz, const Operand& w, Gradient dx) {
  dispatch_weighted("linear", dz.dtype, w.dtype, [&]<class T, class W>(Type<T>, Type<W>) {
    using Sum = Accumulator<T>;
    const Matrix<T> slopes{dz.as<T>(), dz.pitch, 1};
    const Matrix<W, T> weights{w.as<W>(), w.pitch, 1};
    gemm<Sum>(
        {.m = dz.shape.rows(), .n = w.shape[1], .k = w.shape[0]}, [&](Index, Index) { return slopes; },
        [&](Index, Index) { return weights; },
        [&](Index, Index row, Index column, const Sum* sums, Index count) {
          put(dx.to.as<T>() + row * dx.to.pitch + column, sums, count, dx.accumulate);
        });
  });
}

void linear_backward_weight(Context&, const Operand& x, const Operand& dz, Gradient dw) {
  dispatch_weighted("linear", x.dtype, dw.to.dtype, [&]<class T, class W>(Type<T>, Type<W>) {
    using Sum = Accumulator<T>;
    const Matrix<T> slopes{dz.as<T>(), 1, dz.pitch};
    const Matrix<T> rows{x.as<T>(), x.pitch, 1};
    gemm<Sum>(
        {.m = dw.to.shape[0], .n = dw.to.shape[1], .k = x.shape.rows()}, [&](Index, Index) { return slopes; },
        [&](Index, Index) { return rows; },
        [&](Index, Index row, Index column, const Sum* sums, Index count) {
          put(dw.to.as<W>() + row * dw.to.pitch + column, sums, count, dw.accumulate);
        });
  });
}

}  // namespace graft::kernels::cpu
