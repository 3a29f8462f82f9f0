#pragma once

#include <cstdint>

// What the processor and the operating system offer, asked once. The environment variable GRAFT_MAX_CPU_ISA (none,
// avx2, avx512, avx512_bf16, amx) leaves out what lies above it, so that one machine shows what another would do.
namespace graft::kernels::vectorized {

bool has_avx2();         ///< and multiply-adds: the least that these kernels need
bool has_avx512();       ///< the foundation with byte, word, double-word and short-vector instructions
bool has_avx512_bf16();  ///< products of pairs of bf16 numbers, summed in f32
bool has_amx_bf16();     ///< products of whole tiles of them, several times as fast

/// Bytes of a core's second-level cache; 1 MiB where the system does not say.
std::int64_t cache_bytes();

}  // namespace graft::kernels::vectorized
