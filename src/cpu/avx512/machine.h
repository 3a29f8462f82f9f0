#pragma once

// What the processor and the operating system offer, asked once.
namespace graft::kernels::avx512 {

bool has_avx512();       ///< the foundation with byte, word, double-word and short-vector instructions
bool has_avx512_bf16();  ///< products of pairs of bf16 numbers, summed in f32
bool has_amx_bf16();     ///< products of whole tiles of them, several times as fast

}  // namespace graft::kernels::avx512
