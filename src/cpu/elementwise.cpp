#include "kernels/elementwise.h"

#include <array>

#include "core/parallel.h"
#include "cpu/activate_row.h"
#include "cpu/rows.h"

namespace graft::kernels::cpu {
namespace {

using graft::cpu::for_each_row;

constexpr Index kGrain = 1 << 14;  // elements a task: long enough to pay for waking a thread

// So many elements that lie side by side in every operand; of(x) is where they begin in x.
struct Stretch {
  Index row, column, count;

  template <class T>
  T* of(const Operand& x) const {
    return x.as<T>() + row * x.pitch + column;
  }
};
// Calls body(stretch) for stretches that make up the operands, which have one shape.
template <class Body>
void for_each_stretch(std::initializer_list<const Operand*> operands, const Body& body) {
  const Operand& first = **operands.begin();
  if (std::all_of(operands.begin(), operands.end(), [](const Operand* x) { return x->contiguous(); })) {
    parallel_ranges(first.elements(), kGrain, [&](Index begin, Index end) { body(Stretch{0, begin, end - begin}); });
  } else {
    for_each_row(first.shape, [&](Index row, Index channels) { body(Stretch{row, 0, channels}); });
  }
}

}  // namespace

void activation_forward(Context&, Activation function, const Operand& x, const Operand& y) {
  dispatch_floating(name(function), x.dtype, [&]<class T>(Type<T>) {
    for_each_stretch({&x, &y}, [&](const Stretch& at) {
      const T* from = at.of<T>(x);
      T* to = at.of<T>(y);
      std::array<Accumulator<T>, 256> block;
      for (Index i = 0; i < at.count; i += std::ssize(block)) {
        const Index count = std::min(std::ssize(block), at.count - i);
        std::transform(from + i, from + i + count, block.begin(), [](T v) { return static_cast<Accumulator<T>>(v); });
        graft::cpu::activate_row(function, block.data(), count);
        graft::cpu::put(to + i, block.data(), count, false);
      }
    });
  });
}

void activation_backward(Context&, Activation function, const Operand& saved, const Operand& dy, Gradient dx) {
  dispatch_floating(name(function), dy.dtype, [&]<class T>(Type<T>) {
    for_each_stretch({&dy, &dx.to, saved ? &saved : &dy}, [&](const Stretch& at) {
      graft::cpu::slope_row(function, saved ? at.of<T>(saved) : nullptr, at.of<T>(dy), at.of<T>(dx.to), at.count,
                            dx.accumulate);
    });
  });
}

void add_into(Context&, const Operand& from, const Operand& to) {
  dispatch(to.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    for_each_stretch({&from, &to}, [&](const Stretch& at) {
      const T* x = at.of<T>(from);
      T* y = at.of<T>(to);
      for (Index i = 0; i < at.count; ++i) y[i] = convert<T>(static_cast<Sum>(y[i]) + static_cast<Sum>(x[i]));
    });
  });
}

void cast(Context&, const Operand& x, const Operand& y, bool accumulate) {
  dispatch(x.dtype, [&]<class From>(Type<From>) {
    dispatch(y.dtype, [&]<class To>(Type<To>) {
      using Sum = Accumulator<To>;
      for_each_stretch({&x, &y}, [&](const Stretch& at) {
        const From* from = at.of<From>(x);
        To* to = at.of<To>(y);
        for (Index i = 0; i < at.count; ++i) {
          const To value = convert<To>(from[i]);
          to[i] = accumulate ? convert<To>(static_cast<Sum>(to[i]) + static_cast<Sum>(value)) : value;
        }
      });
    });
  });
}

}  // namespace graft::kernels::cpu
