#pragma once

#include <cstddef>

#include "graft/core/context.h"

#include "device/language.h"
#include "runtime/launches.h"

#if defined(__CUDACC__)
#include "runtime/on_gpu.h"
#else
#include "emulated/device.h"
#endif

namespace graft::GRAFT_TARGET {

/// How many blocks of how many threads, and the bytes of dynamic shared memory that each block gets.
struct LaunchShape {
  dim3 grid, block;
  std::size_t shared = 0;
};

#if defined(__CUDACC__)
/// Throws Error naming the kernel if the launch was refused, or if a kernel before it failed.
void check_launch(const char* name, void* stream);
/// Lets a kernel have more dynamic shared memory than the 48 KiB that every kernel may have.
void allow_shared(const char* name, const void* kernel, std::size_t bytes);
#endif

/// Queues `kernel(arguments...)` in a stream of the thread's current GPU, given by its handle. Every kernel of graft is
/// launched here. `name` is what errors, profiles and launch_counts() call it. A grid without blocks launches nothing.
template <class... Parameters, class... Arguments>
void launch(void* stream, const char* name, LaunchShape shape, void (*kernel)(Parameters...),
            const Arguments&... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  count_launch(name);
#if defined(__CUDACC__)
  constexpr std::size_t kSharedOfEveryKernel = std::size_t{48} << 10;
  if (shape.shared > kSharedOfEveryKernel) allow_shared(name, reinterpret_cast<const void*>(kernel), shape.shared);
  kernel<<<shape.grid, shape.block, shape.shared, static_cast<cudaStream_t>(stream)>>>(
      static_cast<Parameters>(arguments)...);
  check_launch(name, stream);
#else
  enqueue(stream, {.name = name,
                   .grid = shape.grid,
                   .block = shape.block,
                   .dynamic_shared = shape.shared,
                   .body = [kernel, ... held = static_cast<Parameters>(arguments)] { kernel(held...); }});
#endif
}

/// The same in the Context's stream, on its GPU.
template <class... Parameters, class... Arguments>
void launch(const Context& context, const char* name, LaunchShape shape, void (*kernel)(Parameters...),
            const Arguments&... arguments) {
#if defined(__CUDACC__)
  const OnGpu here(context.device.index);
#endif
  launch(context.stream.handle(), name, shape, kernel, arguments...);
}

/// The grid of a loop over `count` elements with `threads` a block: enough blocks for all, but no more than fill a GPU
/// several times over, for the threads go on in strides of the grid.
inline LaunchShape grid_for(Index count, unsigned threads = 256) {
  constexpr Index kMostBlocks = 132 * 16;  // sixteen blocks of 128 threads are what one of an H100's 132 SMs can hold
  const Index blocks = (count + threads - 1) / threads;
  return {.grid = dim3(static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks)), .block = dim3(threads)};
}

/// The first element of this thread, and the stride to its next: `for (Index i = first_index(); i < n; i += stride())`.
inline __device__ Index first_index() { return static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; }
inline __device__ Index index_stride() { return static_cast<Index>(gridDim.x) * blockDim.x; }

}  // namespace graft::GRAFT_TARGET
