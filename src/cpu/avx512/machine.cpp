#include "cpu/avx512/machine.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace graft::kernels::avx512 {

bool has_avx512() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("fma");
  return has;
}

bool has_avx512_bf16() {
  static const bool has = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return has_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 5 & 1) != 0;
  }();
  return has;
}

bool has_amx_bf16() {
  static const bool has = [] {
    constexpr unsigned kTiles = 1u << 24, kProductsOfBf16 = 1u << 22;
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kTiles) == 0 || (d & kProductsOfBf16) == 0) return false;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // Linux gives a process tiles when it asks for them
    return has_avx512_bf16() && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return has;
}

}  // namespace graft::kernels::avx512
