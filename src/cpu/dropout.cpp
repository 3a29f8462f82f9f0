#include "kernels/dropout.h"

#include "core/dtype_dispatch.h"
#include "core/parallel.h"

namespace graft::kernels::cpu {
namespace {

constexpr Index kWords = 4;  // of one Philox counter

void apply_mask(double rate, const Operand& state, const Operand& x, const Operand& y, bool accumulate) {
  const auto seed = static_cast<std::uint64_t>(state.as<std::int64_t>()[0]),
             first = static_cast<std::uint64_t>(state.as<std::int64_t>()[1]);
  dispatch_floating("dropout", x.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    const auto threshold = static_cast<float>(rate);
    const Sum scale = static_cast<Sum>(1 / (1 - rate));
    parallel_ranges(x.elements(), kWords * 1024, [&](Index begin, Index end) {
      for (Index at = begin; at < end; at += kWords) {
        const auto words = philox(seed, first + static_cast<std::uint64_t>(at / kWords));
        for (Index i = at; i < std::min(end, at + kWords); ++i) {
          const bool keeps = to_uniform(words[static_cast<std::size_t>(i - at)]) >= threshold;
          const Sum value = keeps ? scale * static_cast<Sum>(x.as<T>()[i]) : Sum(0);
          y.as<T>()[i] = convert<T>(accumulate ? static_cast<Sum>(y.as<T>()[i]) + value : value);
        }
      }
    });
  });
}

}  // namespace

void dropout_forward(Context& context, double rate, const Operand& x, const Operand& y, const Operand& state) {
  const std::uint64_t first = context.generator.claim(static_cast<std::uint64_t>((x.elements() + kWords - 1) / kWords));
  const std::int64_t* base = context.random_state;
  state.as<std::int64_t>()[0] = base != nullptr ? base[0] : static_cast<std::int64_t>(context.generator.seed);
  state.as<std::int64_t>()[1] = static_cast<std::int64_t>(first) + (base != nullptr ? base[1] : 0);
  apply_mask(rate, state, x, y, false);
}

void dropout_backward(Context&, double rate, const Operand& state, const Operand& dy, Gradient dx) {
  apply_mask(rate, state, dy, dx.to, dx.accumulate);
}

}  // namespace graft::kernels::cpu
