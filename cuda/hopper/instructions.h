#pragma once

#include <cstdint>

#include "graft/core/dtype.h"

#include "hopper/layout.h"
#include "hopper/tensor_map.h"

#if !defined(__CUDACC__)
#include "emulated/hopper.h"
#endif

// Every instruction that only Hopper has, each by its section of the PTX ISA 9.0. They need code for sm_90a: a kernel
// that uses them is compiled in this folder alone. The emulated device has a host version of each.
namespace graft::GRAFT_TARGET::hopper {

/// A barrier in shared memory that counts arrivals and bytes (9.7.13.15, "mbarrier"). Its phases are complete in turn,
/// the first of parity 0: a phase ends when all arrivals that the barrier was made for have come, and all bytes that
/// they announced, and the next one begins with the same number of arrivals.
struct Barrier {
  std::uint64_t bits;
};

#if defined(__CUDACC__)
__device__ inline unsigned shared_address(const void* at) {
  return static_cast<unsigned>(__cvta_generic_to_shared(at));
}
/// The dynamic shared memory, from a multiple of 1024 bytes on.
__device__ inline std::byte* shared_memory() {
  extern __shared__ __align__(1024) std::byte graft_hopper_shared[];
  return graft_hopper_shared;
}

/// mbarrier.init (9.7.13.15.9).
__device__ inline void init_barrier(Barrier* barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
/// fence.mbarrier_init (9.7.13.4): the asynchronous units see barriers that were made before it.
__device__ inline void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

/// mbarrier.arrive (9.7.13.15.13): one arrival; what the thread did before is done for those who wait for it.
__device__ inline void arrive(Barrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
/// The same, announcing bytes that copies will bring.
__device__ inline void arrive_expecting(Barrier* barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
/// mbarrier.try_wait (9.7.13.15.16): returns when the phase of this parity is complete. At a barrier in its first
/// phase, parity 1 stands for the one before, which is.
__device__ inline void wait(Barrier* barrier, unsigned parity) {
  asm volatile(
      "{\n"
      ".reg .pred complete;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 complete, [%0], %1;\n"
      "@!complete bra again;\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}

/// prefetch.tensormap (9.7.9.15): the map will be needed soon.
__device__ inline void prefetch(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}
/// cp.async.bulk.tensor, tiled (9.7.9.27.1.2): one thread starts the copy of a box, whose bytes complete a phase of the
/// barrier.
__device__ inline void copy_box(void* to, const TensorMap& map, Barrier* barrier, int inner, int tap, int outer,
                                int product) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], "
      "[%6];" ::"r"(shared_address(to)),
      "l"(&map), "r"(inner), "r"(tap), "r"(outer), "r"(product), "r"(shared_address(barrier))
      : "memory");
}
/// The same in im2col mode: a pixel (column, row) of an image, and the offset of a tap from it.
__device__ inline void copy_windows(void* to, const TensorMap& map, Barrier* barrier, int channel, int column, int row,
                                    int image, int across, int down) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, "
      "%5}], [%6], {%7, %8};" ::"r"(shared_address(to)),
      "l"(&map), "r"(channel), "r"(column), "r"(row), "r"(image), "r"(shared_address(barrier)),
      "h"(static_cast<std::uint16_t>(across)), "h"(static_cast<std::uint16_t>(down))
      : "memory");
}

/// setmaxnreg (9.7.19.5): a warpgroup gives registers back, or takes those that others gave.
template <int Registers>
__device__ void keep_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers>
__device__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

/// wgmma.fence (9.7.15.7.1): products that follow see the sums as they are now.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
/// wgmma.commit_group (9.7.15.7.2): closes the products since the last one into a group.
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// wgmma.wait_group (9.7.15.7.3): returns when this warp's groups are done, except for the `Pending` last ones. The
/// sums are named so that the compiler takes none of them before.
template <int Pending, int N>
__device__ void wait_for_products(float (&sums)[N]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
  if constexpr (Pending == 0) {
#pragma unroll
    for (int i = 0; i < N; ++i) asm volatile("" : "+f"(sums[i])::"memory");
  }
}

// The operands of an instruction with 64, 128 or 256 columns: half as many sums, then the two descriptors and the two
// sides that lie inner.
#define GRAFT_SUMS_8(i)                                                                              \
  "+f"(sums[i]), "+f"(sums[(i) + 1]), "+f"(sums[(i) + 2]), "+f"(sums[(i) + 3]), "+f"(sums[(i) + 4]), \
      "+f"(sums[(i) + 5]), "+f"(sums[(i) + 6]), "+f"(sums[(i) + 7])
#define GRAFT_REGISTERS_64                                                 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define GRAFT_SUMS_64 GRAFT_SUMS_8(0), GRAFT_SUMS_8(8), GRAFT_SUMS_8(16), GRAFT_SUMS_8(24)
#define GRAFT_REGISTERS_128                                                          \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define GRAFT_SUMS_128                                                                                      \
  GRAFT_SUMS_8(0), GRAFT_SUMS_8(8), GRAFT_SUMS_8(16), GRAFT_SUMS_8(24), GRAFT_SUMS_8(32), GRAFT_SUMS_8(40), \
      GRAFT_SUMS_8(48), GRAFT_SUMS_8(56)
#define GRAFT_REGISTERS_256                                                                      \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                       \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "             \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "             \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define GRAFT_SUMS_256                                                                                            \
  GRAFT_SUMS_8(0), GRAFT_SUMS_8(8), GRAFT_SUMS_8(16), GRAFT_SUMS_8(24), GRAFT_SUMS_8(32), GRAFT_SUMS_8(40),       \
      GRAFT_SUMS_8(48), GRAFT_SUMS_8(56), GRAFT_SUMS_8(64), GRAFT_SUMS_8(72), GRAFT_SUMS_8(80), GRAFT_SUMS_8(88), \
      GRAFT_SUMS_8(96), GRAFT_SUMS_8(104), GRAFT_SUMS_8(112), GRAFT_SUMS_8(120)
#define GRAFT_WGMMA(columns, type, a_at, b_at, major_a_at, major_b_at)                                  \
  asm volatile("{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\nwgmma.mma_async.sync.aligned.m64n" #columns \
               "k16.f32." type "." type " {" GRAFT_REGISTERS_##columns                                  \
               "}, %" #a_at ", %" #b_at ", add, 1, 1, %" #major_a_at ", %" #major_b_at ";\n}"           \
               : GRAFT_SUMS_##columns                                                                   \
               : "l"(a), "l"(b), "n"(DepthInnerA ? 0 : 1), "n"(DepthInnerB ? 0 : 1))

/// wgmma.mma_async (9.7.15.5.2): the four warps of a warpgroup start sums += A B for 64 rows of A, 2 N columns of B and
/// 16 depths, both in shared memory where the descriptors say. T is bfloat16 or float16; "transposed", the last two
/// operands, is a factor whose lines lie inner.
template <class T, bool DepthInnerA, bool DepthInnerB, int N>
__device__ void multiply_add(float (&sums)[N], std::uint64_t a, std::uint64_t b) {
  static_assert(std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>);
  static_assert(N == 32 || N == 64 || N == 128);
  if constexpr (std::is_same_v<T, bfloat16>) {
    if constexpr (N == 32) GRAFT_WGMMA(64, "bf16", 32, 33, 34, 35);
    if constexpr (N == 64) GRAFT_WGMMA(128, "bf16", 64, 65, 66, 67);
    if constexpr (N == 128) GRAFT_WGMMA(256, "bf16", 128, 129, 130, 131);
  } else {
    if constexpr (N == 32) GRAFT_WGMMA(64, "f16", 32, 33, 34, 35);
    if constexpr (N == 64) GRAFT_WGMMA(128, "f16", 64, 65, 66, 67);
    if constexpr (N == 128) GRAFT_WGMMA(256, "f16", 128, 129, 130, 131);
  }
}

#undef GRAFT_WGMMA
#undef GRAFT_REGISTERS_64
#undef GRAFT_SUMS_64
#undef GRAFT_REGISTERS_128
#undef GRAFT_SUMS_128
#undef GRAFT_REGISTERS_256
#undef GRAFT_SUMS_256
#undef GRAFT_SUMS_8

#else
inline unsigned shared_address(const void* at) {
  return static_cast<unsigned>(static_cast<const std::byte*>(at) - this_thread().block->dynamic_shared());
}
inline std::byte* shared_memory() { return dynamic_shared<std::byte>(); }
inline BarrierState& state_of(Barrier* barrier) { return *reinterpret_cast<BarrierState*>(barrier); }

inline void init_barrier(Barrier* barrier, unsigned arrivals) { emulated::init_barrier(state_of(barrier), arrivals); }
inline void publish_barriers() {}
inline void arrive(Barrier* barrier) { arrive_at_barrier(state_of(barrier), 0); }
inline void arrive_expecting(Barrier* barrier, unsigned bytes) {
  arrive_at_barrier(state_of(barrier), static_cast<std::int32_t>(bytes));
}
inline void wait(Barrier* barrier, unsigned parity) { wait_at_barrier(state_of(barrier), parity); }

inline void prefetch(const TensorMap&) {}
inline void copy_box(void* to, const TensorMap& map, Barrier* barrier, int inner, int tap, int outer, int product) {
  emulated::copy_box(map, {inner, tap, outer, product}, {}, static_cast<std::uint16_t*>(to), state_of(barrier));
}
inline void copy_windows(void* to, const TensorMap& map, Barrier* barrier, int channel, int column, int row, int image,
                         int across, int down) {
  emulated::copy_box(map, {channel, column, row, image}, {across, down}, static_cast<std::uint16_t*>(to),
                     state_of(barrier));
}

template <int Registers>
void keep_registers() {}
template <int Registers>
void take_registers() {}

inline constexpr Site kBeginProducts{"wgmma.fence"};
inline void begin_products() { meet_in_warp(kBeginProducts); }
inline void commit_products() { this_thread().products.commit(); }
template <int Pending, int N>
void wait_for_products(float (&)[N]) {
  this_thread().products.wait(*this_thread().block, this_thread().number % 128, Pending);
}
template <class T, bool DepthInnerA, bool DepthInnerB, int N>
void multiply_add(float (&sums)[N], std::uint64_t a, std::uint64_t b) {
  this_thread().products.add({.a = a,
                              .b = b,
                              .depth_inner_a = DepthInnerA,
                              .depth_inner_b = DepthInnerB,
                              .bfloat = std::is_same_v<T, bfloat16>,
                              .columns = 2 * N,
                              .sums = sums});
}
#endif

}  // namespace graft::GRAFT_TARGET::hopper
