#include <cmath>

#include "device/normalizer.h"
#include "device/numeric.h"
#include "device/reduce.h"
#include "device/warp_rows.h"
#include "kernels/softmax.h"
#include "runtime/launch.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

// Reads a row twice, the second time from the cache, and writes it once.
template <class T>
__global__ void softmax_kernel(bool log, Index rows, int channels, const T* x, Index x_pitch, T* y, Index y_pitch) {
  using S = Accumulator<T>;
  const int lane = lane_of_thread();
  const Index row = row_of_warp();
  if (row >= rows) return;  // a whole warp
  const T* from = x + row * x_pitch;
  T* to = y + row * y_pitch;
  Normalizer<S> all;
  for (int c = lane; c < channels; c += kLanes) all.add(widen(from[c]));
  all = warp_normalizer(all);
  for (int c = lane; c < channels; c += kLanes) {
    const S value = widen(from[c]) - all.largest;
    to[c] = narrow<T>(log ? value - std::log(all.sum) : std::exp(value) / all.sum);
  }
}

template <class T>
__global__ void softmax_backward_kernel(bool log, Index rows, int channels, const T* y, Index y_pitch, const T* dy,
                                        Index dy_pitch, T* dx, Index dx_pitch, bool accumulate) {
  using S = Accumulator<T>;
  const int lane = lane_of_thread();
  const Index row = row_of_warp();
  if (row >= rows) return;
  const T *value = y + row * y_pitch, *slope = dy + row * dy_pitch;
  T* to = dx + row * dx_pitch;
  S total = 0;
  for (int c = lane; c < channels; c += kLanes) total += widen(slope[c]) * (log ? S(1) : widen(value[c]));
  total = warp_reduce(total, Plus{});
  for (int c = lane; c < channels; c += kLanes) {
    const S v = widen(value[c]), g = widen(slope[c]);
    const S gradient = log ? g - std::exp(v) * total : v * (g - total);
    to[c] = narrow<T>(accumulate ? widen(to[c]) + gradient : gradient);
  }
}

}  // namespace

void softmax_forward(Context& context, bool log, const Operand& x, const Operand& y) {
  dispatch_floating("softmax", x.dtype, [&]<class T>(Type<T>) {
    launch(context, "softmax", a_warp_each(x.shape.rows()), softmax_kernel<T>, log, x.shape.rows(), x.shape.channels(),
           x.as<T>(), x.pitch, y.as<T>(), y.pitch);
  });
}

void softmax_backward(Context& context, bool log, const Operand& y, const Operand& dy, Gradient dx) {
  dispatch_floating("softmax", dy.dtype, [&]<class T>(Type<T>) {
    launch(context, "softmax_backward", a_warp_each(dy.shape.rows()), softmax_backward_kernel<T>, log, dy.shape.rows(),
           dy.shape.channels(), y.as<T>(), y.pitch, dy.as<T>(), dy.pitch, dx.to.as<T>(), dx.to.pitch, dx.accumulate);
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
