#include <functional>

#include "core/dtype_dispatch.h"
#include "cpu/sum_into.h"
#include "kernels/elementwise.h"

namespace graft::kernels::cpu {
namespace {

using graft::cpu::Walk;

constexpr Index kGrain = 1 << 14;

// The loop over one run of neighbours is a function that is chosen once for a call, by what it computes and by which
// operands stand still. What surrounds it (threads, the walk, adding up) is then compiled once for each type, not once
// for each choice.

template <class T>
using Run = void (*)(T* y, const T* a, const T* b, Index count);

template <class T, class F, Index kStepA, Index kStepB>
void run(T* y, const T* a, const T* b, Index count) {
  using Sum = Accumulator<T>;
  for (Index i = 0; i < count; ++i)
    y[i] = convert<T>(F{}(static_cast<Sum>(a[i * kStepA]), static_cast<Sum>(b[i * kStepB])));
}

template <class T, class F>
Run<T> run_with(Index step_a, Index step_b) {
  if (step_a == 0) return step_b == 0 ? run<T, F, 0, 0> : run<T, F, 0, 1>;
  return step_b == 0 ? run<T, F, 1, 0> : run<T, F, 1, 1>;
}

template <class T>
Run<T> run_of(Binary function, Index step_a, Index step_b) {
  switch (function) {
    case Binary::add:
      return run_with<T, std::plus<>>(step_a, step_b);
    case Binary::subtract:
      return run_with<T, std::minus<>>(step_a, step_b);
    case Binary::multiply:
      return run_with<T, std::multiplies<>>(step_a, step_b);
    case Binary::divide:
      return run_with<T, std::divides<>>(step_a, step_b);
  }
  return nullptr;
}

// d(a op b)/da or d(a op b)/db as a function of those operands that it reads.
struct One {
  static constexpr bool kReadsA = false, kReadsB = false;
  template <class Sum>
  static Sum at(Sum, Sum) {
    return 1;
  }
};
struct MinusOne : One {
  template <class Sum>
  static Sum at(Sum, Sum) {
    return -1;
  }
};
struct FirstOperand {
  static constexpr bool kReadsA = true, kReadsB = false;
  template <class Sum>
  static Sum at(Sum a, Sum) {
    return a;
  }
};
struct SecondOperand {
  static constexpr bool kReadsA = false, kReadsB = true;
  template <class Sum>
  static Sum at(Sum, Sum b) {
    return b;
  }
};
struct OneOverSecond {
  static constexpr bool kReadsA = false, kReadsB = true;
  template <class Sum>
  static Sum at(Sum, Sum b) {
    return 1 / b;
  }
};
struct QuotientBySecond {
  static constexpr bool kReadsA = true, kReadsB = true;
  template <class Sum>
  static Sum at(Sum a, Sum b) {
    return -a / (b * b);
  }
};

// Adds `count` terms dy * slope(a, b) to one sum, or each to a sum of its own.
template <class T>
using AddRun = void (*)(Accumulator<T>* sums, const T* dy, const T* a, const T* b, Index count);

template <class T, class Slope, Index kStep, Index kStepA, Index kStepB>
void add_run(Accumulator<T>* sums, const T* dy, const T* a, const T* b, Index count) {
  using Sum = Accumulator<T>;
  const auto term = [=](Index i) {
    return static_cast<Sum>(dy[i]) * Slope::at(static_cast<Sum>(a[i * kStepA]), static_cast<Sum>(b[i * kStepB]));
  };
  if constexpr (kStep == 0) {
    Sum total = 0;
    for (Index i = 0; i < count; ++i) total += term(i);
    *sums += total;
  } else {
    for (Index i = 0; i < count; ++i) sums[i] += term(i);
  }
}

// The loop for a slope, and which operands it reads: one that is not read has no step.
template <class T>
struct Adding {
  bool reads_a, reads_b;
  AddRun<T> (*choose)(Index step, Index step_a, Index step_b);
};

template <class T, class Slope>
constexpr Adding<T> adding() {
  return {Slope::kReadsA, Slope::kReadsB, [](Index step, Index step_a, Index step_b) -> AddRun<T> {
            constexpr Index kA = Slope::kReadsA ? 1 : 0, kB = Slope::kReadsB ? 1 : 0;
            if (step == 0) {
              if (step_a == 0) return step_b == 0 ? add_run<T, Slope, 0, 0, 0> : add_run<T, Slope, 0, 0, kB>;
              return step_b == 0 ? add_run<T, Slope, 0, kA, 0> : add_run<T, Slope, 0, kA, kB>;
            }
            if (step_a == 0) return step_b == 0 ? add_run<T, Slope, 1, 0, 0> : add_run<T, Slope, 1, 0, kB>;
            return step_b == 0 ? add_run<T, Slope, 1, kA, 0> : add_run<T, Slope, 1, kA, kB>;
          }};
}

template <class T>
Adding<T> adding_of(Binary function, bool of_b) {
  switch (function) {
    case Binary::add:
      return adding<T, One>();
    case Binary::subtract:
      return of_b ? adding<T, MinusOne>() : adding<T, One>();
    case Binary::multiply:
      return of_b ? adding<T, FirstOperand>() : adding<T, SecondOperand>();
    case Binary::divide:
      return of_b ? adding<T, QuotientBySecond>() : adding<T, OneOverSecond>();
  }
  return {};
}

// The gradient of one operand, summed over the axes along which it was repeated.
template <class T>
void add_gradient(const Adding<T>& adding, const Operand& a, const Operand& b, const Operand& dy, Gradient to) {
  // dy stands in for an operand that the slope does not read, and that may not be there.
  const Operand &va = adding.reads_a ? a : dy, &vb = adding.reads_b ? b : dy;
  const Strided target = graft::cpu::repeated(to.to, dy.shape), sdy(dy);
  const Strided sa = Strided(va).broadcast(dy.shape), sb = Strided(vb).broadcast(dy.shape);
  const Walk<4> walk({&target, &sdy, &sa, &sb});
  const auto& steps = walk.inner_strides();
  const AddRun<T> add = adding.choose(steps[0], steps[2], steps[3]);
  graft::cpu::sum_into<T>(walk, to, [&](Accumulator<T>* sums, const std::array<Index, 4>& at, Index count) {
    add(sums, dy.as<T>() + at[1], va.as<T>() + at[2], vb.as<T>() + at[3], count);
  });
}

}  // namespace

void binary_forward(Context&, Binary function, const Operand& a, const Operand& b, const Operand& y) {
  dispatch_floating("arithmetic", y.dtype, [&]<class T>(Type<T>) {
    const Strided sa = Strided(a).broadcast(y.shape), sb = Strided(b).broadcast(y.shape), sy(y);
    const Walk<3> walk({&sy, &sa, &sb});
    const Run<T> run = run_of<T>(function, walk.inner_strides()[1], walk.inner_strides()[2]);
    parallel_ranges(walk.elements(), kGrain, [&](Index begin, Index end) {
      walk.runs(begin, end, [&](const std::array<Index, 3>& at, Index count) {
        run(y.as<T>() + at[0], a.as<T>() + at[1], b.as<T>() + at[2], count);
      });
    });
  });
}

void binary_backward(Context&, Binary function, const Operand& a, const Operand& b, const Operand& dy, Gradient da,
                     Gradient db) {
  dispatch_floating("arithmetic", dy.dtype, [&]<class T>(Type<T>) {
    if (da) add_gradient(adding_of<T>(function, false), a, b, dy, da);
    if (db) add_gradient(adding_of<T>(function, true), a, b, dy, db);
  });
}

}  // namespace graft::kernels::cpu
