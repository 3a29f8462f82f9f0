#pragma once

// Before a loop whose arrays must stay in registers: nvcc unrolls it wholly.
#if defined(__CUDACC__)
#define GRAFT_UNROLL _Pragma("unroll")
#else
#define GRAFT_UNROLL
#endif

// Before a loop that must stay one: what nvcc would load ahead for several rounds costs registers that are not there.
#if defined(__CUDACC__)
#define GRAFT_ROLLED _Pragma("unroll 1")
#else
#define GRAFT_ROLLED
#endif
