#include "kernels/reduce.h"

#include <vector>

#include "core/parallel.h"
#include "cpu/vector_ops.h"

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

}  // namespace graft::kernels::cpu
