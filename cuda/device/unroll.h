#pragma once

// Before a loop whose arrays must stay in registers: nvcc unrolls it wholly.
#if defined(__CUDACC__)
#define GRAFT_UNROLL _Pragma("unroll")
#else
#define GRAFT_UNROLL
#endif
