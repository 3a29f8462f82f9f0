#include "device/numeric.h"
#include "kernels/dropout.h"
#include "runtime/launch.h"

namespace graft::kernels::GRAFT_TARGET {
namespace {

using namespace graft::GRAFT_TARGET;

constexpr int kWords = 4;  // of one Philox counter

// `base`, where it is there, is the random state of the step: see Context::random_state.
__global__ void put_state_kernel(std::uint64_t seed, std::uint64_t first, const std::int64_t* base,
                                 std::int64_t* state) {
  state[0] = base != nullptr ? base[0] : static_cast<std::int64_t>(seed);
  state[1] = static_cast<std::int64_t>(first) + (base != nullptr ? base[1] : 0);
}

// A thread draws the four words of one counter, for four neighbours, which it loads N at a time. Ten rounds of Philox
// are some 70 integer instructions, fewer than the two 16-byte accesses of the four elements cost in time.
template <class T, int N>
__global__ void dropout_kernel(float rate, Accumulator<T> scale, const std::int64_t* state, Index count, const T* x,
                               T* y, bool accumulate) {
  using Sum = Accumulator<T>;
  const auto seed = static_cast<std::uint64_t>(state[0]), first = static_cast<std::uint64_t>(state[1]);
  for (Index counter = first_index(); counter * kWords < count; counter += index_stride()) {
    const auto words = philox(seed, first + static_cast<std::uint64_t>(counter));
    const auto masked = [&](int word, T from, T to) {
      const bool keeps = to_uniform(words[static_cast<std::size_t>(word)]) >= rate;
      const Sum value = keeps ? scale * widen(from) : Sum(0);
      return narrow<T>(accumulate ? widen(to) + value : value);
    };
    const Index at = counter * kWords;
    if (at + kWords <= count) {
      for (int word = 0; word < kWords; word += N) {
        const Vector<T, N> from = load<N>(x + at + word);
        Vector<T, N> to{};
        if (accumulate) to = load<N>(y + at + word);
        for (int i = 0; i < N; ++i) to[i] = masked(word + i, from[i], to[i]);
        store(y + at + word, to);
      }
    } else {
      for (Index i = at; i < count; ++i) y[i] = masked(static_cast<int>(i - at), x[i], accumulate ? y[i] : T{});
    }
  }
}

void apply_mask(Context& context, const char* name, double rate, const Operand& state, const Operand& x,
                const Operand& y, bool accumulate) {
  dispatch_floating("dropout", x.dtype, [&]<class T>(Type<T>) {
    constexpr int n = kVector<T> < kWords ? kVector<T> : kWords;
    const bool vectors = aligned<T>(x.data, 0, n) && aligned<T>(y.data, 0, n);
    launch(context, name, grid_for((x.elements() + kWords - 1) / kWords),
           vectors ? dropout_kernel<T, n> : dropout_kernel<T, 1>, static_cast<float>(rate),
           static_cast<Accumulator<T>>(1 / (1 - rate)), state.as<std::int64_t>(), x.elements(), x.as<T>(), y.as<T>(),
           accumulate);
  });
}

}  // namespace

void dropout_forward(Context& context, double rate, const Operand& x, const Operand& y, const Operand& state) {
  const std::uint64_t first = context.generator.claim(static_cast<std::uint64_t>((x.elements() + kWords - 1) / kWords));
  launch(context, "dropout_state", {.grid = dim3(1), .block = dim3(1)}, put_state_kernel, context.generator.seed, first,
         context.random_state, state.as<std::int64_t>());
  apply_mask(context, "dropout", rate, state, x, y, false);
}

void dropout_backward(Context& context, double rate, const Operand& state, const Operand& dy, Gradient dx) {
  apply_mask(context, "dropout_backward", rate, state, dy, dx.to, dx.accumulate);
}

}  // namespace graft::kernels::GRAFT_TARGET
