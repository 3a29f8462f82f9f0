#include "kernels/elementwise.h"

#include <array>

#include "core/parallel.h"
#include "cpu/activate_row.h"

namespace graft::kernels::cpu {
namespace {

constexpr Index kGrain = 1 << 14;  // elements a task: long enough to pay for waking a thread

}  // namespace

void activation_forward(Context&, Activation function, const Operand& x, const Operand& y) {
  dispatch_floating(name(function), x.dtype, [&]<class T>(Type<T>) {
    parallel_ranges(x.elements(), kGrain, [&](Index begin, Index end) {
      std::array<Accumulator<T>, 256> block;
      for (Index at = begin; at < end; at += std::ssize(block)) {
        const Index count = std::min(std::ssize(block), end - at);
        std::transform(x.as<T>() + at, x.as<T>() + at + count, block.begin(),
                       [](T v) { return static_cast<Accumulator<T>>(v); });
        graft::cpu::activate_row(function, block.data(), count);
        graft::cpu::put(y.as<T>() + at, block.data(), count, false);
      }
    });
  });
}

void activation_backward(Context&, Activation function, const Operand& saved, const Operand& dy, Gradient dx) {
  dispatch_floating(name(function), dy.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    parallel_ranges(dy.elements(), kGrain, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const Sum slope =
            static_cast<Sum>(dy.as<T>()[i]) * derivative(function, saved ? static_cast<Sum>(saved.as<T>()[i]) : Sum(0));
        dx.to.as<T>()[i] = convert<T>(dx.accumulate ? static_cast<Sum>(dx.to.as<T>()[i]) + slope : slope);
      }
    });
  });
}

void add_into(Context&, const Operand& from, const Operand& to) {
  dispatch(to.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    parallel_ranges(to.elements(), kGrain, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        to.as<T>()[i] = convert<T>(static_cast<Sum>(to.as<T>()[i]) + static_cast<Sum>(from.as<T>()[i]));
    });
  });
}

void cast(Context&, const Operand& x, const Operand& y, bool accumulate) {
  dispatch(x.dtype, [&]<class From>(Type<From>) {
    dispatch(y.dtype, [&]<class To>(Type<To>) {
      parallel_ranges(x.elements(), kGrain, [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i) {
          const To value = convert<To>(x.as<From>()[i]);
          y.as<To>()[i] =
              accumulate
                  ? convert<To>(static_cast<Accumulator<To>>(y.as<To>()[i]) + static_cast<Accumulator<To>>(value))
                  : value;
        }
      });
    });
  });
}

}  // namespace graft::kernels::cpu
