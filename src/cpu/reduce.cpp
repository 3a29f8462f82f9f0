#include "kernels/reduce.h"

#include <vector>

#include "cpu/sum_into.h"

namespace graft::kernels::cpu {

void sum_rows(Context&, const Operand& x, Gradient y) {
  constexpr Index kRowsABlock = 1024;  // also bounds the rounding error: sums of sums
  dispatch_floating("sum_rows", x.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const Index channels = x.shape.channels(), rows = x.shape.rows();
    const Index blocks = (rows + kRowsABlock - 1) / kRowsABlock;
    std::vector<Sum> partial(static_cast<std::size_t>(std::max<Index>(blocks, 1) * channels));
    parallel_ranges(rows, kRowsABlock, [&](Index begin, Index end) {
      Sum* sums = partial.data() + begin / kRowsABlock * channels;
      for (Index row = begin; row < end; ++row) graft::cpu::add_scaled(sums, Sum(1), x.as<T>() + row * x.pitch, channels);
    });
    for (Index block = 1; block < blocks; ++block) graft::cpu::add_scaled(partial.data(), Sum(1), partial.data() + block * channels, channels);
    if (y.to.dtype == x.dtype) graft::cpu::put(y.to.as<T>(), partial.data(), channels, y.accumulate);
    else graft::cpu::put(y.to.as<Sum>(), partial.data(), channels, y.accumulate);
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
