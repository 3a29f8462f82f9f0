#pragma once

#include "core/dtype_dispatch.h"
#include "device/language.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace graft::GRAFT_TARGET {

/// A value in the type that sums over its type are kept in: float for the halves.
template <class T>
__device__ Accumulator<T> widen(T value) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<T, float16>)
    return __half2float(__half(__half_raw{value.bits}));
  else
#endif
    return static_cast<Accumulator<T>>(value);
}

/// The inverse, rounded to nearest even.
template <class T, class From>
__device__ T narrow(From value) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<T, float16>) {
    T result;
    result.bits = static_cast<__half_raw>(__float2half_rn(static_cast<float>(value))).x;
    return result;
  } else if constexpr (std::is_same_v<T, bfloat16>) {
    T result;
    result.bits = static_cast<__nv_bfloat16_raw>(__float2bfloat16_rn(static_cast<float>(value))).x;
    return result;
  } else
#endif
    return convert<T>(value);
}

/// N neighbours that one instruction loads or stores: at most 16 bytes, and aligned to their size.
template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
  T values[N];

  __device__ T& operator[](int i) { return values[i]; }
  __device__ const T& operator[](int i) const { return values[i]; }
};

/// How many elements 16 bytes hold.
template <class T>
inline constexpr int kVector = static_cast<int>(16 / sizeof(T));

#if !defined(__CUDACC__)
// A GPU stops at an access that is not aligned; most CPUs do not mind. And it moves a vector by one instruction.
template <class V>
void before_access(const void* at, bool write) {
  Block& block = *this_thread().block;
  if (reinterpret_cast<std::uintptr_t>(at) % alignof(V) != 0) block.stop_misaligned(at, sizeof(V));
  if (block.counted()) block.count_vector(at, sizeof(V), write);
}
#else
template <class V>
__device__ void before_access(const void*, bool) {}
#endif

template <int N, class T>
__device__ Vector<T, N> load(const T* at) {
  before_access<Vector<T, N>>(at, false);
  return *reinterpret_cast<const Vector<T, N>*>(at);
}

template <int N, class T>
__device__ void store(T* at, const Vector<T, N>& vector) {
  before_access<Vector<T, N>>(at, true);
  *reinterpret_cast<Vector<T, N>*>(at) = vector;
}

/// to[k] (+)= values[k], rounded, for N neighbours that one store may write.
template <int N, class T, class Sum>
__device__ void put(T* to, const Sum (&values)[N], bool accumulate) {
  Vector<T, N> result;
  if (accumulate) {
    const Vector<T, N> there = load<N>(to);
    for (int k = 0; k < N; ++k) result[k] = narrow<T>(widen(there[k]) + values[k]);
  } else {
    for (int k = 0; k < N; ++k) result[k] = narrow<T>(values[k]);
  }
  store(to, result);
}

/// Whether rows of `pitch` elements from `data` on can be read as vectors of N.
template <class T>
bool aligned(const void* data, Index pitch, int n) {
  return reinterpret_cast<std::uintptr_t>(data) % (sizeof(T) * static_cast<std::size_t>(n)) == 0 && pitch % n == 0;
}

/// Calls body(std::integral_constant) with how many neighbours a thread takes: 16 bytes of them where they `fit`, else
/// one.
template <class T, class Body>
void with_vectors(bool fit, const Body& body) {
  if (fit)
    body(std::integral_constant<int, kVector<T>>{});
  else
    body(std::integral_constant<int, 1>{});
}

}  // namespace graft::GRAFT_TARGET
