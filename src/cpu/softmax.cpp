#include "kernels/softmax.h"

#include "cpu/rows.h"

namespace graft::kernels::cpu {

using graft::cpu::for_each_row;
using graft::cpu::log_sum_exp;

void softmax_forward(Context&, bool log, const Operand& x, const Operand& y) {
  dispatch_floating("softmax", x.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    for_each_row(x.shape, [&](Index row, Index channels) {
      const T* from = x.as<T>() + row * x.pitch;
      T* to = y.as<T>() + row * y.pitch;
      const Sum total = log_sum_exp<Sum>(from, channels);
      for (Index c = 0; c < channels; ++c) {
        const Sum value = static_cast<Sum>(from[c]) - total;
        to[c] = convert<T>(log ? value : std::exp(value));
      }
    });
  });
}

void softmax_backward(Context&, bool log, const Operand& y, const Operand& dy, Gradient dx) {
  dispatch_floating("softmax", dy.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    for_each_row(dy.shape, [&](Index row, Index channels) {
      const T *value = y.as<T>() + row * y.pitch, *slope = dy.as<T>() + row * dy.pitch;
      T* to = dx.to.as<T>() + row * dx.to.pitch;
      Sum total = 0;
      for (Index c = 0; c < channels; ++c)
        total += static_cast<Sum>(slope[c]) * (log ? Sum(1) : static_cast<Sum>(value[c]));
      for (Index c = 0; c < channels; ++c) {
        const Sum v = static_cast<Sum>(value[c]), g = static_cast<Sum>(slope[c]);
        const Sum gradient = log ? g - std::exp(v) * total : v * (g - total);
        to[c] = convert<T>(dx.accumulate ? static_cast<Sum>(to[c]) + gradient : gradient);
      }
    });
  });
}

}  // namespace graft::kernels::cpu
