#include "device/numeric.h"
#include "kernels/joined_axes.h"
#include "kernels/strided.h"
#include "runtime/launch.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

template <class T>
__global__ void copy_kernel(JoinedAxes<2> axes, Index count, const T* from, T* to, Accumulator<T> scale,
                            bool accumulate) {
  for (Index i = first_index(); i < count; i += index_stride()) {
    const auto [at_to, at_from] = axes.offsets(i);
    const T value = scale == Accumulator<T>(1) ? from[at_from] : narrow<T>(scale * widen(from[at_from]));
    to[at_to] = accumulate ? narrow<T>(widen(to[at_to]) + widen(value)) : value;
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
    const JoinedAxes<2> axes({&to, &from});
    const Index count = to.shape.elements();
    launch(context, "copy", grid_for(count), copy_kernel<T>, axes, count, static_cast<const T*>(from.data),
           static_cast<T*>(to.data), static_cast<Accumulator<T>>(scale), accumulate);
  });
}

void fill(Context& context, const Operand& y, double value) {
  dispatch(y.dtype, [&]<class T>(Type<T>) {
    launch(context, "fill", grid_for(y.elements()), fill_kernel<T>, y.shape.rows(), y.shape.channels(), y.pitch,
           convert<T>(value), y.as<T>());
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
