#pragma once

#include "device/language.h"

// Copies from global to shared memory that pass no register and need nobody to wait for each of them: cp.async of sm_80
// and later. A thread issues copies, closes them into a group, and waits until all groups but the last few have
// arrived; a barrier then shows them to the other threads.
namespace graft::GRAFT_TARGET {

/// Copies `Bytes`, 4, 8 or 16, between places aligned to as many. Where not `inside`, `from` is not read and zeros
/// arrive.
template <int Bytes>
__device__ void copy_async([[maybe_unused]] void* shared, [[maybe_unused]] const void* from,
                           [[maybe_unused]] bool inside) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
#if defined(__CUDA_ARCH__)
  const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const int bytes = inside ? Bytes : 0;
  if constexpr (Bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(Bytes), "r"(bytes)
                 : "memory");
#elif !defined(__CUDACC__)
  this_thread().copies.add(*this_thread().block, shared, from, Bytes, inside);
#endif
}

__device__ inline void commit_copies() {
#if defined(__CUDA_ARCH__)
  asm volatile("cp.async.commit_group;" ::: "memory");
#elif !defined(__CUDACC__)
  this_thread().copies.commit();
#endif
}

/// Returns when this thread's groups have arrived, except for the `Pending` last ones.
template <int Pending>
__device__ void wait_for_copies() {
#if defined(__CUDA_ARCH__)
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#elif !defined(__CUDACC__)
  this_thread().copies.wait(*this_thread().block, Pending);
#endif
}

}  // namespace graft::GRAFT_TARGET
