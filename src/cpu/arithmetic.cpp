#include "core/dtype_dispatch.h"
#include "cpu/sum_into.h"
#include "kernels/elementwise.h"

namespace graft::kernels::cpu {
namespace {

using graft::cpu::Walk;
using graft::cpu::with_unit_stride;

constexpr Index kGrain = 1 << 14;

// Calls body with the function as a callable, so that the choice is made once and not for every element.
template <class Body>
void with_function(Binary function, const Body& body) {
  switch (function) {
    case Binary::add:
      return body([](auto a, auto b) { return a + b; });
    case Binary::subtract:
      return body([](auto a, auto b) { return a - b; });
    case Binary::multiply:
      return body([](auto a, auto b) { return a * b; });
    case Binary::divide:
      return body([](auto a, auto b) { return a / b; });
  }
}

// Calls body with d(a op b)/da or d(a op b)/db as a function of a and b, and whether it reads a and b.
template <class Body>
void with_slope(Binary function, bool of_b, const Body& body) {
  switch (function) {
    case Binary::add:
      return body([](auto a, auto) { return decltype(a)(1); }, false, false);
    case Binary::subtract:
      if (of_b) return body([](auto a, auto) { return decltype(a)(-1); }, false, false);
      return body([](auto a, auto) { return decltype(a)(1); }, false, false);
    case Binary::multiply:
      if (of_b) return body([](auto a, auto) { return a; }, true, false);
      return body([](auto, auto b) { return b; }, false, true);
    case Binary::divide:
      if (of_b) return body([](auto a, auto b) { return -a / (b * b); }, true, true);
      return body([](auto, auto b) { return decltype(b)(1) / b; }, false, true);
  }
}

}  // namespace

void binary_forward(Context&, Binary function, const Operand& a, const Operand& b, const Operand& y) {
  dispatch_floating("arithmetic", y.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const Strided sa = Strided(a).broadcast(y.shape), sb = Strided(b).broadcast(y.shape), sy(y);
    const Walk<3> walk({&sy, &sa, &sb});
    with_function(function, [&](const auto& f) {
      with_unit_stride(walk.inner_strides()[1], [&](auto step_a) {
        with_unit_stride(walk.inner_strides()[2], [&](auto step_b) {
          parallel_ranges(walk.elements(), kGrain, [&](Index begin, Index end) {
            walk.runs(begin, end, [&](const std::array<Index, 3>& at, Index count) {
              T* to = y.as<T>() + at[0];
              const T *pa = a.as<T>() + at[1], *pb = b.as<T>() + at[2];
              for (Index i = 0; i < count; ++i)
                to[i] = convert<T>(f(static_cast<Sum>(pa[i * step_a]), static_cast<Sum>(pb[i * step_b])));
            });
          });
        });
      });
    });
  });
}

void binary_backward(Context&, Binary function, const Operand& a, const Operand& b, const Operand& dy, Gradient da,
                     Gradient db) {
  dispatch_floating("arithmetic", dy.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const auto sum = [&](Gradient to, bool of_b) {
      with_slope(function, of_b, [&](const auto& slope, bool reads_a, bool reads_b) {
        // dy stands in for an operand that the slope does not read, and that may not be there.
        const Operand &va = reads_a ? a : dy, &vb = reads_b ? b : dy;
        const Strided target = graft::cpu::repeated(to.to, dy.shape), sdy(dy);
        const Strided sa = Strided(va).broadcast(dy.shape), sb = Strided(vb).broadcast(dy.shape);
        const Walk<4> walk({&target, &sdy, &sa, &sb});
        with_unit_stride(walk.inner_strides()[0], [&](auto step) {
          with_unit_stride(walk.inner_strides()[2], [&](auto step_a) {
            with_unit_stride(walk.inner_strides()[3], [&](auto step_b) {
              graft::cpu::sum_into<T>(walk, to, [&](Sum* sums, const std::array<Index, 4>& at, Index count) {
                const T *g = dy.as<T>() + at[1], *pa = va.as<T>() + at[2], *pb = vb.as<T>() + at[3];
                const auto term = [&](Index i) {
                  return static_cast<Sum>(g[i]) *
                         slope(static_cast<Sum>(pa[i * step_a]), static_cast<Sum>(pb[i * step_b]));
                };
                if constexpr (step == 0) {
                  Sum total = 0;
                  for (Index i = 0; i < count; ++i) total += term(i);
                  *sums += total;
                } else {
                  for (Index i = 0; i < count; ++i) sums[i] += term(i);
                }
              });
            });
          });
        });
      });
    };
    if (da) sum(da, false);
    if (db) sum(db, true);
  });
}

}  // namespace graft::kernels::cpu
