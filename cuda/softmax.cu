#include <cmath>

#include "device/normalizer.h"
#include "device/numeric.h"
#include "device/reduce.h"
#include "device/unroll.h"
#include "device/warp_rows.h"
#include "kernels/softmax.h"
#include "runtime/launch.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

// Takes rows of any length: reads each twice, the second time from the cache, and writes it once.
template <class T, bool Log>
__global__ void softmax_kernel(Index rows, int channels, const T* x, Index x_pitch, T* y, Index y_pitch) {
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
    to[c] = narrow<T>(Log ? value - std::log(all.sum) : std::exp(value) / all.sum);
  }
}

// How many numbers of a row a lane may keep in registers: kFew is enough for 256 columns, kMany for 1024.
constexpr int kFew = 8, kMany = 32;
constexpr int kThreads = kWarpsABlock * kLanes;
// Blocks that a multiprocessor must have registers for: warps that wait for memory need others beside them.
template <class S>
constexpr int kBlocks = sizeof(S) == 8 ? 1 : 10;

// The same for rows of at most 32 x Mine numbers, which are read once, all loads of a lane under way together.
template <class T, bool Log, int Mine>
__global__ void __launch_bounds__(kThreads, kBlocks<Accumulator<T>>)
    softmax_in_registers_kernel(Index rows, int channels, const T* x, Index x_pitch, T* y, Index y_pitch) {
  using S = Accumulator<T>;
  const int lane = lane_of_thread(), left = channels - lane;
  const Index row = row_of_warp();
  if (row >= rows) return;
  const T* from = x + row * x_pitch + lane;
  T* to = y + row * y_pitch + lane;
  S values[Mine], largest = kLowest<S>, sum = 0;
  GRAFT_UNROLL
  for (int i = 0; i < Mine; ++i) values[i] = i * kLanes < left ? widen(from[i * kLanes]) : -S(INFINITY);
  GRAFT_UNROLL
  for (int i = 0; i < Mine; ++i) largest = Larger{}(largest, values[i]);
  largest = warp_reduce(largest, Larger{});
  GRAFT_UNROLL
  for (int i = 0; i < Mine; ++i) {
    values[i] -= largest;
    const S power = std::exp(values[i]);  // 0 past the end
    sum += power;
    if (!Log) values[i] = power;
  }
  sum = warp_reduce(sum, Plus{});
  GRAFT_UNROLL
  for (int i = 0; i < Mine; ++i) {
    if (i * kLanes < left) to[i * kLanes] = narrow<T>(Log ? values[i] - std::log(sum) : values[i] / sum);
  }
}

// dx = y (dy - sum of y dy), or of the logarithm dx = dy - exp(y) sum of dy.
template <bool Log, class S>
__device__ S term(S y, S dy) {
  return Log ? dy : y * dy;
}
template <bool Log, class S>
__device__ S gradient(S y, S dy, S total) {
  return Log ? dy - std::exp(y) * total : y * (dy - total);
}

template <class T, bool Log>
__global__ void softmax_backward_kernel(Index rows, int channels, const T* y, Index y_pitch, const T* dy,
                                        Index dy_pitch, T* dx, Index dx_pitch, bool accumulate) {
  using S = Accumulator<T>;
  const int lane = lane_of_thread();
  const Index row = row_of_warp();
  if (row >= rows) return;
  const T *value = y + row * y_pitch, *slope = dy + row * dy_pitch;
  T* to = dx + row * dx_pitch;
  S total = 0;
  for (int c = lane; c < channels; c += kLanes) total += term<Log>(widen(value[c]), widen(slope[c]));
  total = warp_reduce(total, Plus{});
  for (int c = lane; c < channels; c += kLanes) {
    const S result = gradient<Log>(widen(value[c]), widen(slope[c]), total);
    to[c] = narrow<T>(accumulate ? widen(to[c]) + result : result);
  }
}

template <class T, bool Log, int Mine>
__global__ void __launch_bounds__(kThreads)
    softmax_backward_in_registers_kernel(Index rows, int channels, const T* y, Index y_pitch, const T* dy,
                                         Index dy_pitch, T* dx, Index dx_pitch, bool accumulate) {
  using S = Accumulator<T>;
  const int lane = lane_of_thread(), left = channels - lane;
  const Index row = row_of_warp();
  if (row >= rows) return;
  const T *value = y + row * y_pitch + lane, *slope = dy + row * dy_pitch + lane;
  T* to = dx + row * dx_pitch + lane;
  S values[Mine], slopes[Mine], total = 0;
  GRAFT_UNROLL
  for (int i = 0; i < Mine; ++i) {
    values[i] = i * kLanes < left ? widen(value[i * kLanes]) : S(0);
    slopes[i] = i * kLanes < left ? widen(slope[i * kLanes]) : S(0);
  }
  GRAFT_UNROLL
  for (int i = 0; i < Mine; ++i) total += term<Log>(values[i], slopes[i]);
  total = warp_reduce(total, Plus{});
  GRAFT_UNROLL
  for (int i = 0; i < Mine; ++i) {
    if (i * kLanes >= left) continue;
    const S result = gradient<Log>(values[i], slopes[i], total);
    to[i * kLanes] = narrow<T>(accumulate ? widen(to[i * kLanes]) + result : result);
  }
}

template <class T, bool Log>
void forward(const Context& context, const Operand& x, const Operand& y) {
  const Index rows = x.shape.rows(), channels = x.shape.channels();
  const auto run = [&](auto kernel) {
    launch(context, "softmax", a_warp_each(rows), kernel, rows, channels, x.as<T>(), x.pitch, y.as<T>(), y.pitch);
  };
  if (channels <= kFew * kLanes)
    run(softmax_in_registers_kernel<T, Log, kFew>);
  else if (channels <= kMany * kLanes)
    run(softmax_in_registers_kernel<T, Log, kMany>);
  else
    run(softmax_kernel<T, Log>);
}

template <class T, bool Log>
void backward(const Context& context, const Operand& y, const Operand& dy, const Gradient& dx) {
  const Index rows = dy.shape.rows(), channels = dy.shape.channels();
  const auto run = [&](auto kernel) {
    launch(context, "softmax_backward", a_warp_each(rows), kernel, rows, channels, y.as<T>(), y.pitch, dy.as<T>(),
           dy.pitch, dx.to.as<T>(), dx.to.pitch, dx.accumulate);
  };
  if (channels <= kFew * kLanes)
    run(softmax_backward_in_registers_kernel<T, Log, kFew>);
  else if (channels <= kMany * kLanes)
    run(softmax_backward_in_registers_kernel<T, Log, kMany>);
  else
    run(softmax_backward_kernel<T, Log>);
}

}  // namespace

void softmax_forward(Context& context, bool log, const Operand& x, const Operand& y) {
  dispatch_floating("softmax", x.dtype, [&]<class T>(Type<T>) {
    log ? forward<T, true>(context, x, y) : forward<T, false>(context, x, y);
  });
}

void softmax_backward(Context& context, bool log, const Operand& y, const Operand& dy, Gradient dx) {
  dispatch_floating("softmax", dy.dtype, [&]<class T>(Type<T>) {
    log ? backward<T, true>(context, y, dy, dx) : backward<T, false>(context, y, dy, dx);
  });
}

}  // namespace graft::kernels::GRAFT_TARGET
