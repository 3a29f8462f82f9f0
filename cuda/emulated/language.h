#pragma once

// CUDA C++ as the host's compiler sees it when it compiles a .cu file for the emulated device: what nvcc knows by
// itself, as macros and functions. Only .cu files include this, by way of device/language.h.

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulated/block.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __grid_constant__

#define threadIdx (::graft::emulated::this_thread().index)
#define blockIdx (::graft::emulated::this_thread().block->index())
#define blockDim (::graft::emulated::this_thread().block->launch().block)
#define gridDim (::graft::emulated::this_thread().block->launch().grid)
#define warpSize (::graft::emulated::kWarpSize)

using graft::emulated::dim3;

namespace graft::emulated {

/// What every warp function is made of: each lane of the mask gives an In and gets an Out, which
/// `compute(const In* const* in, Out* const* out)` fills for all of them.
template <class In, class Out, class Compute>
Out warp_function(const Site& site, unsigned mask, const In& in, Compute) {
  Out out{};
  const auto compute = [](const void* const* given, void* const* result) {
    const In* inputs[kWarpSize];
    Out* outputs[kWarpSize];
    for (unsigned lane = 0; lane < kWarpSize; ++lane) {
      inputs[lane] = static_cast<const In*>(given[lane]);
      outputs[lane] = static_cast<Out*>(result[lane]);
    }
    Compute{}(inputs, outputs);
  };
  this_thread().block->warp(site, mask, &in, &out, compute);
  return out;
}

template <class T>
struct Shuffle {
  T value;
  int source;  // the lane to read, relative to nothing
};

template <class T>
T shuffle(const Site& site, unsigned mask, T value, int source) {
  return warp_function<Shuffle<T>, T>(site, mask, {value, source}, [](const Shuffle<T>* const* in, T* const* out) {
    for (unsigned lane = 0; lane < kWarpSize; ++lane) {
      if (in[lane] == nullptr) continue;
      const Shuffle<T>* from = in[static_cast<unsigned>(in[lane]->source) % kWarpSize];
      *out[lane] = from != nullptr ? from->value : in[lane]->value;  // undefined on a GPU
    }
  });
}

inline int lane() { return static_cast<int>(this_thread().number % kWarpSize); }

inline constexpr Site kShuffle{"__shfl_sync()"}, kShuffleXor{"__shfl_xor_sync()"}, kShuffleDown{"__shfl_down_sync()"},
    kShuffleUp{"__shfl_up_sync()"}, kBallot{"__ballot_sync()"}, kWarpBarrier{"__syncwarp()", true};

}  // namespace graft::emulated

inline void __syncthreads() { graft::emulated::this_thread().block->barrier(false); }
inline int __syncthreads_count(int vote) { return graft::emulated::this_thread().block->barrier(vote != 0); }
inline int __syncthreads_or(int vote) { return __syncthreads_count(vote) > 0; }
inline int __syncthreads_and(int vote) { return __syncthreads_count(vote) == static_cast<int>(blockDim.count()); }

inline unsigned __ballot_sync(unsigned mask, int vote) {
  return graft::emulated::warp_function<int, unsigned>(
      graft::emulated::kBallot, mask, vote, [](const int* const* in, unsigned* const* out) {
        unsigned votes = 0;
        for (unsigned lane = 0; lane < warpSize; ++lane)
          votes |= in[lane] != nullptr && *in[lane] != 0 ? 1u << lane : 0;
        for (unsigned lane = 0; lane < warpSize; ++lane) {
          if (out[lane] != nullptr) *out[lane] = votes;
        }
      });
}
inline int __any_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) != 0; }
inline int __all_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) == mask; }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  graft::emulated::warp_function<char, char>(graft::emulated::kWarpBarrier, mask, 0,
                                             [](const char* const*, char* const*) {});
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int base = graft::emulated::lane() / width * width;
  return graft::emulated::shuffle(graft::emulated::kShuffle, mask, value, base + source % width);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const int lane = graft::emulated::lane();
  const int source = lane ^ bits;
  return graft::emulated::shuffle(graft::emulated::kShuffleXor, mask, value,
                                  source / width == lane / width ? source : lane);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = graft::emulated::lane();
  const int source = lane + static_cast<int>(delta);
  return graft::emulated::shuffle(graft::emulated::kShuffleDown, mask, value,
                                  source / width == lane / width ? source : lane);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = graft::emulated::lane();
  const int source = lane - static_cast<int>(delta);
  return graft::emulated::shuffle(graft::emulated::kShuffleUp, mask, value,
                                  source >= 0 && source / width == lane / width ? source : lane);
}

// Blocks run on several threads of the operating system, so atomics are real ones.
template <class T>
T atomicAdd(T* at, T value) {
  return std::atomic_ref<T>(*at).fetch_add(value);
}
template <class T>
T atomicMax(T* at, T value) {
  std::atomic_ref<T> target(*at);
  T old = target.load();
  while (old < value && !target.compare_exchange_weak(old, value)) {
  }
  return old;
}
template <class T>
T atomicCAS(T* at, T expected, T value) {
  std::atomic_ref<T>(*at).compare_exchange_strong(expected, value);
  return expected;
}
template <class T>
T atomicExch(T* at, T value) {
  return std::atomic_ref<T>(*at).exchange(value);
}
inline void __threadfence() {}  // atomics are sequentially consistent here
inline void __threadfence_block() {}

template <class T>
T __ldg(const T* at) {
  return *at;
}
inline float rsqrtf(float x) { return 1.f / std::sqrt(x); }
inline double rsqrt(double x) { return 1. / std::sqrt(x); }
