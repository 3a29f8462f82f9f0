#include "kernels/reduce.h"

#include "cpu/sum_into.h"

namespace graft::kernels::cpu {

void sum_rows(Context&, const Operand& x, Gradient y) {
  dispatch_floating("sum_rows", x.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    graft::cpu::sum_over_rows<T>(x.shape, y, [&](Index row, Sum* sums, Index channels) {
      graft::cpu::add_scaled(sums, Sum(1), x.as<T>() + row * x.pitch, channels);
    });
  });
}

void sum_to(Context&, const Operand& x, double scale, Gradient y) {
  dispatch_floating("sum", x.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const Strided target = graft::cpu::repeated(y.to, x.shape), source(x);
    const graft::cpu::Walk<2> walk({&target, &source});
    graft::cpu::with_unit_stride(walk.inner_strides()[0], [&](auto step) {
      graft::cpu::sum_into<T>(walk, y, [&](Sum* sums, const std::array<Index, 2>& at, Index count) {
        const T* from = x.as<T>() + at[1];
        const Sum factor = static_cast<Sum>(scale);
        if constexpr (step == 0) {
          Sum total = 0;
#pragma omp simd reduction(+ : total)
          for (Index i = 0; i < count; ++i) total += static_cast<Sum>(from[i]);
          *sums += factor * total;
        } else {
          for (Index i = 0; i < count; ++i) sums[i] += factor * static_cast<Sum>(from[i]);
        }
      });
    });
  });
}

}  // namespace graft::kernels::cpu
