#include "kernels/optimizer.h"

#include <cmath>
#include <vector>

#include "core/dtype_dispatch.h"
#include "core/parallel.h"

namespace graft::kernels::cpu {
namespace {

constexpr Index kGrain = 1 << 14;  // elements a task: long enough to pay for waking a thread

}  // namespace

void sgd_update(Context&, const SgdUpdate& u, const Operand& g, const Operand& w, const Operand& v) {
  dispatch_floating("sgd_update", w.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const auto rate = static_cast<Sum>(u.rate), decay = static_cast<Sum>(u.decay);
    const auto momentum = static_cast<Sum>(u.momentum), scale = static_cast<Sum>(u.gradient_scale);
    parallel_ranges(w.elements(), kGrain, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const auto weight = static_cast<Sum>(w.as<T>()[i]);
        const Sum slope = static_cast<Sum>(g.as<T>()[i]) * scale + decay * weight;
        Sum direction = slope;
        if (v) {
          const Sum velocity = momentum * static_cast<Sum>(v.as<T>()[i]) + slope;
          v.as<T>()[i] = convert<T>(velocity);
          direction = u.nesterov ? slope + momentum * velocity : velocity;
        }
        w.as<T>()[i] = convert<T>(weight - rate * direction);
      }
    });
  });
}

void adam_update(Context&, const AdamUpdate& u, const Operand& g, const Operand& w, const Operand& m,
                 const Operand& s) {
  dispatch_floating("adam_update", w.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const auto beta1 = static_cast<Sum>(u.beta1), beta2 = static_cast<Sum>(u.beta2);
    const auto rest1 = static_cast<Sum>(1 - u.beta1), rest2 = static_cast<Sum>(1 - u.beta2);
    const auto rate = static_cast<Sum>(u.rate / u.correction1), epsilon = static_cast<Sum>(u.epsilon);
    const auto root_correction = static_cast<Sum>(std::sqrt(u.correction2));
    const auto coupled = static_cast<Sum>(u.decoupled ? 0 : u.decay);
    const auto shrink = static_cast<Sum>(u.decoupled ? 1 - u.rate * u.decay : 1);
    const auto scale = static_cast<Sum>(u.gradient_scale);
    parallel_ranges(w.elements(), kGrain, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const Sum weight = static_cast<Sum>(w.as<T>()[i]) * shrink;
        const Sum slope = static_cast<Sum>(g.as<T>()[i]) * scale + coupled * weight;
        const Sum first = beta1 * static_cast<Sum>(m.as<T>()[i]) + rest1 * slope;
        const Sum second = beta2 * static_cast<Sum>(s.as<T>()[i]) + rest2 * slope * slope;
        m.as<T>()[i] = convert<T>(first);
        s.as<T>()[i] = convert<T>(second);
        w.as<T>()[i] = convert<T>(weight - rate * first / (std::sqrt(second) / root_correction + epsilon));
      }
    });
  });
}

void sum_squares(Context&, const Operand& x, const Operand& sum) {
  const Index blocks = (x.elements() + kGrain - 1) / kGrain;
  std::vector<double> partial(static_cast<std::size_t>(blocks));
  dispatch_floating("sum_squares", x.dtype, [&]<class T>(Type<T>) {
    parallel_ranges(x.elements(), kGrain, [&](Index begin, Index end) {
      double total = 0;
      for (Index i = begin; i < end; ++i) {
        const auto value = static_cast<double>(convert<Accumulator<T>>(x.as<T>()[i]));
        total += value * value;
      }
      partial[static_cast<std::size_t>(begin / kGrain)] = total;
    });
  });
  for (const double part : partial) *sum.as<double>() += part;
}

}  // namespace graft::kernels::cpu
