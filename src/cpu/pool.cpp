#include "kernels/pool.h"

#include <vector>

#include "core/parallel.h"
#include "cpu/vector.h"
#include "cpu/vector_ops.h"
#include "cpu/window_taps.h"

// A window's taps are pointers to the channels of its pixels. Results and gradients are both gathered from lists of
// taps, a block of channels at a time with the running values in registers; no two tasks write the same element.
namespace graft::kernels::cpu {
namespace {

using graft::cpu::Floats;
using graft::cpu::for_each_pixel_under;
using graft::cpu::for_each_window_over;
using graft::cpu::HalfFloats;
using graft::cpu::has_lanes;
using graft::cpu::kLanes;
using graft::cpu::load;
using graft::cpu::put;
using graft::cpu::store;

constexpr Index kChannelsATask = 256;  // splits the few pixels of global pooling into tasks; a multiple of a cache line

// The largest of each channel over the taps, and its number in `numbers`. The first of equals stays; a NaN wins and
// stays.
template <class T, class Sum>
GRAFT_INLINE inline void largest_of(const std::vector<const T*>& taps, const std::vector<std::int32_t>& numbers,
                                    Sum* best, std::int32_t* at, Index channels) {
  for (Index c = 0; c < channels; ++c) best[c] = static_cast<Sum>(taps[0][c]);
  for (Index c = 0; c < channels; ++c) at[c] = numbers[0];
  for (std::size_t t = 1; t < taps.size(); ++t) {
    const T* tap = taps[t];
    const std::int32_t number = numbers[t];
#pragma omp simd
    for (Index c = 0; c < channels; ++c) {
      const Sum x = static_cast<Sum>(tap[c]);
      const bool wins = !(x <= best[c]) & (best[c] == best[c]);
      at[c] = wins ? number : at[c];
      best[c] = wins ? x : best[c];
    }
  }
}

// The same without the numbers, which lets the largest stay in registers: of a few vectors, so that none waits for the
// one before.
template <class T, class Sum>
GRAFT_INLINE inline void largest_alone_of(const std::vector<const T*>& taps, Sum* best, Index channels) {
  constexpr Index kVectors = 4, kEach = kLanes / 2;
  Index c = 0;
  if constexpr (has_lanes<T>) {
    for (; c + kVectors * kEach <= channels; c += kVectors * kEach) {
      HalfFloats most[kVectors], x;
      for (Index v = 0; v < kVectors; ++v) load(most[v], taps[0] + c + v * kEach);
      for (std::size_t t = 1; t < taps.size(); ++t) {
        for (Index v = 0; v < kVectors; ++v) {
          load(x, taps[t] + c + v * kEach);
          most[v] = (~(x <= most[v]) & (most[v] == most[v])) ? x : most[v];
        }
      }
      for (Index v = 0; v < kVectors; ++v) store(best + c + v * kEach, most[v]);
    }
  }
  for (; c < channels; ++c) {
    best[c] = static_cast<Sum>(taps[0][c]);
    for (std::size_t t = 1; t < taps.size(); ++t) {
      const Sum x = static_cast<Sum>(taps[t][c]);
      if (!(x <= best[c]) && best[c] == best[c]) best[c] = x;
    }
  }
}

// sum[c] = sum over the taps of scale * tap[c].
template <class T, class Sum>
GRAFT_INLINE inline void scaled_sum_of(const std::vector<const T*>& taps, const std::vector<Sum>& scales, Sum* sums,
                                       Index channels) {
  Index c = 0;
  if constexpr (has_lanes<T>) {
    for (; c + kLanes <= channels; c += kLanes) {
      Floats sum{}, x;
      for (std::size_t t = 0; t < taps.size(); ++t) {
        load(x, taps[t] + c);
        sum += scales[t] * x;
      }
      store(sums + c, sum);
    }
  }
  for (; c < channels; ++c) {
    sums[c] = Sum(0);
    for (std::size_t t = 0; t < taps.size(); ++t) sums[c] += scales[t] * static_cast<Sum>(taps[t][c]);
  }
}

// sum[c] = sum over the taps of tap[c] where the position of the maximum is the tap's number.
template <class T, class P, class Sum>
GRAFT_INLINE inline void matching_sum_of(const std::vector<const T*>& taps, const std::vector<const P*>& positions,
                                         const std::vector<std::int32_t>& numbers, Sum* sums, Index channels) {
  for (Index c = 0; c < channels; ++c) sums[c] = Sum(0);
  for (std::size_t t = 0; t < taps.size(); ++t) {
    const T* tap = taps[t];
    const P* position = positions[t];
    const P number = static_cast<P>(numbers[t]);
    for (Index c = 0; c < channels; ++c) sums[c] += position[c] == number ? static_cast<Sum>(tap[c]) : Sum(0);
  }
}

template <class T>
using Taps = std::vector<const T*>;
using Numbers = std::vector<std::int32_t>;

// f64 and f16 take the templates as they are; what networks run in is compiled for each instruction set.
template <class T, class Sum>
void largest(const Taps<T>& taps, const Numbers& numbers, Sum* best, std::int32_t* at, Index channels) {
  largest_of(taps, numbers, best, at, channels);
}
GRAFT_CPU_CLONES void largest(const Taps<float>& taps, const Numbers& numbers, float* best, std::int32_t* at,
                              Index channels) {
  largest_of(taps, numbers, best, at, channels);
}
GRAFT_CPU_CLONES void largest(const Taps<bfloat16>& taps, const Numbers& numbers, float* best, std::int32_t* at,
                              Index channels) {
  largest_of(taps, numbers, best, at, channels);
}
template <class T, class Sum>
void largest_alone(const Taps<T>& taps, Sum* best, Index channels) {
  largest_alone_of(taps, best, channels);
}
GRAFT_CPU_CLONES void largest_alone(const Taps<float>& taps, float* best, Index channels) {
  largest_alone_of(taps, best, channels);
}
GRAFT_CPU_CLONES void largest_alone(const Taps<bfloat16>& taps, float* best, Index channels) {
  largest_alone_of(taps, best, channels);
}
template <class T, class Sum>
void scaled_sum(const Taps<T>& taps, const std::vector<Sum>& scales, Sum* sums, Index channels) {
  scaled_sum_of(taps, scales, sums, channels);
}
GRAFT_CPU_CLONES void scaled_sum(const Taps<float>& taps, const std::vector<float>& scales, float* sums,
                                 Index channels) {
  scaled_sum_of(taps, scales, sums, channels);
}
GRAFT_CPU_CLONES void scaled_sum(const Taps<bfloat16>& taps, const std::vector<float>& scales, float* sums,
                                 Index channels) {
  scaled_sum_of(taps, scales, sums, channels);
}
template <class T, class P, class Sum>
void matching_sum(const Taps<T>& taps, const std::vector<const P*>& positions, const Numbers& numbers, Sum* sums,
                  Index channels) {
  matching_sum_of(taps, positions, numbers, sums, channels);
}
GRAFT_CPU_CLONES void matching_sum(const Taps<float>& taps, const std::vector<const std::uint8_t*>& positions,
                                   const Numbers& numbers, float* sums, Index channels) {
  matching_sum_of(taps, positions, numbers, sums, channels);
}
GRAFT_CPU_CLONES void matching_sum(const Taps<bfloat16>& taps, const std::vector<const std::uint8_t*>& positions,
                                   const Numbers& numbers, float* sums, Index channels) {
  matching_sum_of(taps, positions, numbers, sums, channels);
}

// Calls body(image, row, first channel, channels) for every row of every image and block of channels, on all threads.
template <class Body>
void for_each_row(Index batch, Index rows, Index channels, const Body& body) {
  const Index blocks = (channels + kChannelsATask - 1) / kChannelsATask;
  parallel_for(batch * rows * blocks, [&](Index task) {
    const Index first = task % blocks * kChannelsATask;
    body(task / blocks / rows, task / blocks % rows, first, std::min(kChannelsATask, channels - first));
  });
}

template <class Body>
void with_positions(const Operand& positions, const Body& body) {
  if (positions.dtype == DType::u8)
    body(Type<std::uint8_t>{});
  else
    body(Type<std::int32_t>{});
}

}  // namespace

bool max_pool_forward_is_ahead(const Context&, const WindowGeometry&, const Operand&, const Operand&,
                               const Operand& positions) {
  return !positions;
}
bool average_pool_forward_is_ahead(const Context&, const WindowGeometry&, const Operand& x, const Operand&) {
  return x.dtype == DType::bf16;
}

void max_pool_forward(Context&, const WindowGeometry& g, const Operand& x, const Operand& y, const Operand& positions) {
  dispatch_floating("max_pool", x.dtype, [&]<class T>(Type<T>) {
    for_each_row(g.batch, g.out_height, g.channels, [&](Index n, Index row, Index first, Index channels) {
      Taps<T> taps;
      Numbers numbers;
      std::vector<Accumulator<T>> best(static_cast<std::size_t>(channels));
      std::vector<std::int32_t> at(static_cast<std::size_t>(channels));
      for (Index column = 0; column < g.out_width; ++column) {
        taps.clear();
        numbers.clear();
        for_each_pixel_under(g, row, column, [&](Index tap, Index pixel) {
          taps.push_back(x.as<T>() + (n * g.height * g.width + pixel) * x.pitch + first);
          numbers.push_back(static_cast<std::int32_t>(tap));
        });
        if (positions)
          largest(taps, numbers, best.data(), at.data(), channels);
        else
          largest_alone(taps, best.data(), channels);
        const Index window = (n * g.out_height + row) * g.out_width + column;
        put(y.as<T>() + window * y.pitch + first, best.data(), channels, false);
        if (!positions) continue;
        with_positions(positions, [&]<class P>(Type<P>) {
          P* to = positions.as<P>() + window * positions.pitch + first;
          for (Index c = 0; c < channels; ++c) to[c] = static_cast<P>(at[static_cast<std::size_t>(c)]);
        });
      }
    });
  });
}

void max_pool_backward(Context&, const WindowGeometry& g, const Operand& positions, const Operand& dy, Gradient dx) {
  dispatch_floating("max_pool", dy.dtype, [&]<class T>(Type<T>) {
    with_positions(positions, [&]<class P>(Type<P>) {
      for_each_row(g.batch, g.height, g.channels, [&](Index n, Index i, Index first, Index channels) {
        Taps<T> taps;
        std::vector<const P*> where;
        Numbers numbers;
        std::vector<Accumulator<T>> sums(static_cast<std::size_t>(channels));
        for (Index j = 0; j < g.width; ++j) {
          taps.clear();
          where.clear();
          numbers.clear();
          for_each_window_over(g, i, j, [&](Index tap, Index row, Index column) {
            const Index window = (n * g.out_height + row) * g.out_width + column;
            taps.push_back(dy.as<T>() + window * dy.pitch + first);
            where.push_back(positions.as<P>() + window * positions.pitch + first);
            numbers.push_back(static_cast<std::int32_t>(tap));
          });
          matching_sum(taps, where, numbers, sums.data(), channels);
          put(dx.to.as<T>() + ((n * g.height + i) * g.width + j) * dx.to.pitch + first, sums.data(), channels,
              dx.accumulate);
        }
      });
    });
  });
}

void average_pool_forward(Context&, const WindowGeometry& g, const Operand& x, const Operand& y) {
  dispatch_floating("average_pool", x.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    for_each_row(g.batch, g.out_height, g.channels, [&](Index n, Index row, Index first, Index channels) {
      Taps<T> taps;
      std::vector<Sum> scales, mean(static_cast<std::size_t>(channels));
      for (Index column = 0; column < g.out_width; ++column) {
        taps.clear();
        for_each_pixel_under(g, row, column, [&](Index, Index pixel) {
          taps.push_back(x.as<T>() + (n * g.height * g.width + pixel) * x.pitch + first);
        });
        scales.assign(taps.size(), Sum(1) / static_cast<Sum>(taps.size()));
        scaled_sum(taps, scales, mean.data(), channels);
        put(y.as<T>() + ((n * g.out_height + row) * g.out_width + column) * y.pitch + first, mean.data(), channels,
            false);
      }
    });
  });
}

// dx[pixel] = sum over the windows that cover it of dy[window] / (pixels under the window).
void average_pool_backward(Context&, const WindowGeometry& g, const Operand& dy, Gradient dx) {
  dispatch_floating("average_pool", dy.dtype, [&]<class T>(Type<T>) {
    using Sum = Accumulator<T>;
    for_each_row(g.batch, g.height, g.channels, [&](Index n, Index i, Index first, Index channels) {
      Taps<T> taps;
      std::vector<Sum> scales, sums(static_cast<std::size_t>(channels));
      for (Index j = 0; j < g.width; ++j) {
        taps.clear();
        scales.clear();
        for_each_window_over(g, i, j, [&](Index, Index row, Index column) {
          const auto rows = graft::cpu::rows_inside(g, row), columns = graft::cpu::columns_inside(g, column);
          taps.push_back(dy.as<T>() + ((n * g.out_height + row) * g.out_width + column) * dy.pitch + first);
          scales.push_back(Sum(1) / static_cast<Sum>((rows.end - rows.begin) * (columns.end - columns.begin)));
        });
        scaled_sum(taps, scales, sums.data(), channels);
        put(dx.to.as<T>() + ((n * g.height + i) * g.width + j) * dx.to.pitch + first, sums.data(), channels,
            dx.accumulate);
      }
    });
  });
}

}  // namespace graft::kernels::cpu
