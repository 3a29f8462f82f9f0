#include "kernels/strided.h"

#include "core/dtype_dispatch.h"
#include "cpu/walk.h"

namespace graft::kernels::cpu {
namespace {

constexpr Index kGrain = 1 << 14;

template <class T, class Value>
void copy_elements(const Strided& from, const Strided& to, bool accumulate, const Value& value) {
  using Sum = Accumulator<T>;
  const graft::cpu::Walk<2> walk({&to, &from});
  const Index step_to = walk.inner_strides()[0], step_from = walk.inner_strides()[1];
  parallel_ranges(walk.elements(), kGrain, [&](Index begin, Index end) {
    walk.runs(begin, end, [&](const std::array<Index, 2>& at, Index count) {
      T* y = static_cast<T*>(to.data) + at[0];
      const T* x = static_cast<const T*>(from.data) + at[1];
      if (accumulate) {
        for (Index i = 0; i < count; ++i) {
          y[i * step_to] = convert<T>(static_cast<Sum>(y[i * step_to]) + static_cast<Sum>(value(x[i * step_from])));
        }
      } else if (step_to == 1 && step_from == 1) {
        for (Index i = 0; i < count; ++i) y[i] = value(x[i]);
      } else {
        for (Index i = 0; i < count; ++i) y[i * step_to] = value(x[i * step_from]);
      }
    });
  });
}

}  // namespace

void copy(Context&, const Strided& from, const Strided& to, double scale, bool accumulate) {
  dispatch(to.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    if (scale == 1)
      copy_elements<T>(from, to, accumulate, [](T x) { return x; });
    else
      copy_elements<T>(from, to, accumulate,
                       [factor = static_cast<Sum>(scale)](T x) { return convert<T>(factor * static_cast<Sum>(x)); });
  });
}

void fill(Context&, const Operand& y, double value) {
  dispatch(y.dtype, [&]<class T>(Type<T>) {
    const Index channels = y.shape.channels();
    const Index rows_at_once = std::max<Index>(1, kGrain / std::max<Index>(1, channels));
    parallel_ranges(y.shape.rows(), rows_at_once, [&](Index begin, Index end) {
      for (Index row = begin; row < end; ++row) std::fill_n(y.as<T>() + row * y.pitch, channels, convert<T>(value));
    });
  });
}

}  // namespace graft::kernels::cpu
