#pragma once

// The first include of every .cu file, which is compiled twice: by nvcc for the GPU, and by the host's compiler for the
// emulated device. GRAFT_TARGET is the namespace of the one that is being compiled, so that both can be linked
// together.

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#define GRAFT_TARGET cuda
/// An array of N elements that the threads of a block share.
#define GRAFT_SHARED(T, name, N) __shared__ __align__(16) T name[N]

namespace graft::cuda {
/// The shared memory whose size the launch gives.
template <class T>
__device__ T* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char graft_dynamic_shared[];
  return reinterpret_cast<T*>(graft_dynamic_shared);
}
}  // namespace graft::cuda

#else

#include "emulated/language.h"

#define GRAFT_TARGET emulated
// The text of the place tells arrays apart: equal literals of one file share an address, different lines do not.
#define GRAFT_SHARED_PLACE_2(line) __FILE__ ":" #line
#define GRAFT_SHARED_PLACE(line) GRAFT_SHARED_PLACE_2(line)
#define GRAFT_SHARED(T, name, N)                                                       \
  T* const name = reinterpret_cast<T*>(::graft::emulated::this_thread().block->shared( \
      GRAFT_SHARED_PLACE(__LINE__) " " #name, #name, sizeof(T) * (N), 16))

namespace graft::emulated {
template <class T>
T* dynamic_shared() {
  return reinterpret_cast<T*>(this_thread().block->dynamic_shared());
}
}  // namespace graft::emulated

#endif
