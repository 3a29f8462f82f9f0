#include "kernels/layer_norm.h"

#include "cpu/rows.h"
#include "cpu/sum_into.h"

namespace graft::kernels::cpu {

using graft::cpu::for_each_row;

void layer_norm_forward(Context&, double epsilon, const Operand& x, const Operand& gamma, const Operand& beta,
                        const Operand& y, const Operand& mean, const Operand& inverse_deviation) {
  dispatch_floating("layer_norm", x.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    for_each_row(x.shape, [&](Index row, Index channels) {
      const T* from = x.as<T>() + row * x.pitch;
      const Sum count = static_cast<Sum>(channels);
      Sum m = 0, variance = 0;
      for (Index c = 0; c < channels; ++c) m += static_cast<Sum>(from[c]);
      m /= count;
      for (Index c = 0; c < channels; ++c) {  // a second pass: E[x^2] - mean^2 would cancel
        const Sum d = static_cast<Sum>(from[c]) - m;
        variance += d * d;
      }
      const Sum inverse = Sum(1) / std::sqrt(variance / count + static_cast<Sum>(epsilon));
      T* to = y.as<T>() + row * y.pitch;
      for (Index c = 0; c < channels; ++c) {
        to[c] = convert<T>((static_cast<Sum>(from[c]) - m) * inverse * gamma.as<Sum>()[c] + beta.as<Sum>()[c]);
      }
      mean.as<Sum>()[row] = m;
      inverse_deviation.as<Sum>()[row] = inverse;
    });
  });
}

void layer_norm_backward_input(Context&, const Operand& x, const Operand& gamma, const Operand& mean,
                               const Operand& inverse_deviation, const Operand& dy, Gradient dx) {
  dispatch_floating("layer_norm", dy.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    for_each_row(dy.shape, [&](Index row, Index channels) {
      const T *from = x.as<T>() + row * x.pitch, *slope = dy.as<T>() + row * dy.pitch;
      const Sum m = mean.as<Sum>()[row], inverse = inverse_deviation.as<Sum>()[row];
      const auto g = [&](Index c) { return static_cast<Sum>(slope[c]) * gamma.as<Sum>()[c]; };
      const auto n = [&](Index c) { return (static_cast<Sum>(from[c]) - m) * inverse; };
      Sum sum_g = 0, sum_gn = 0;
      for (Index c = 0; c < channels; ++c) {
        sum_g += g(c);
        sum_gn += g(c) * n(c);
      }
      sum_g /= static_cast<Sum>(channels);
      sum_gn /= static_cast<Sum>(channels);
      T* to = dx.to.as<T>() + row * dx.to.pitch;
      for (Index c = 0; c < channels; ++c) {
        const Sum gradient = inverse * (g(c) - sum_g - n(c) * sum_gn);
        to[c] = convert<T>(dx.accumulate ? static_cast<Sum>(to[c]) + gradient : gradient);
      }
    });
  });
}

void layer_norm_backward_gamma(Context&, const Operand& x, const Operand& mean, const Operand& inverse_deviation,
                               const Operand& dy, Gradient dgamma) {
  dispatch_floating("layer_norm", dy.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    graft::cpu::sum_over_rows<T>(dy.shape, dgamma, [&](Index row, Sum* sums, Index channels) {
      const T *from = x.as<T>() + row * x.pitch, *slope = dy.as<T>() + row * dy.pitch;
      const Sum m = mean.as<Sum>()[row], inverse = inverse_deviation.as<Sum>()[row];
      for (Index c = 0; c < channels; ++c)
        sums[c] += static_cast<Sum>(slope[c]) * (static_cast<Sum>(from[c]) - m) * inverse;
    });
  });
}

}  // namespace graft::kernels::cpu
