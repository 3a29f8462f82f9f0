#include "device/axes.h"
#include "device/numeric.h"
#include "kernels/strided.h"
#include "runtime/launch.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

// A thread moves N neighbours at a time.
template <int N, class T>
__global__ void copy_kernel(DividedAxes<2> axes, Index count, const T* from, T* to, Accumulator<T> scale,
                            bool accumulate) {
  for (Index i = first_index(); i < count; i += index_stride()) {
    const auto [at_to, at_from] = axes.offsets(i);
    Vector<T, N> values = load<N>(from + at_from);
    if (scale != Accumulator<T>(1)) {
      for (int k = 0; k < N; ++k) values[k] = narrow<T>(scale * widen(values[k]));
    }
    if (accumulate) {
      const Vector<T, N> there = load<N>(to + at_to);
      for (int k = 0; k < N; ++k) values[k] = narrow<T>(widen(there[k]) + widen(values[k]));
    }
    store(to + at_to, values);
  }
}

template <class T>
__global__ void fill_kernel(Index rows, Index channels, Index pitch, T value, T* y) {
  for (Index i = first_index(); i < rows * channels; i += index_stride())
    y[i / channels * pitch + i % channels] = value;
}

}  // namespace

void copy(Context& context, const Strided& from, const Strided& to, double scale, bool accumulate) {
  dispatch(to.dtype, [&]<class T>(Type<T>) {
    with_axes<T, 2>({&to, &from}, [&]<int N>(std::integral_constant<int, N>, const DividedAxes<2>& axes) {
      launch(context, "copy", grid_for(axes.elements()), copy_kernel<N, T>, axes, axes.elements(),
             static_cast<const T*>(from.data), static_cast<T*>(to.data), static_cast<Accumulator<T>>(scale),
             accumulate);
    });
  });
}

void fill(Context& context, const Operand& y, double value) {
  dispatch(y.dtype, [&]<class T>(Type<T>) {
    launch(context, "fill", grid_for(y.elements()), fill_kernel<T>, y.shape.rows(), y.shape.channels(), y.pitch,
           convert<T>(value), y.as<T>());
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
