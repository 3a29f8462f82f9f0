#include "cpu/vectorized/machine.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/format.h"
#include "kernels/registry.h"

namespace graft::kernels::vectorized {
namespace {

enum class Isa : std::uint8_t { none, avx2, avx512, avx512_bf16, amx };
constexpr std::array<std::string_view, 5> kNames{"none", "avx2", "avx512", "avx512_bf16", "amx"};

// The environment variable GRAFT_MAX_CPU_ISA leaves out what lies above it.
bool allowed(Isa isa) {
  static const Isa most = [] {
    const char* const given = std::getenv("GRAFT_MAX_CPU_ISA");
    if (given == nullptr) return Isa::amx;
    const auto* const found = std::find(kNames.begin(), kNames.end(), given);
    check(found != kNames.end(), "[machine] GRAFT_MAX_CPU_ISA is '{}': expected one of {}", given,
          fmt::join(kNames, ", "));
    return static_cast<Isa>(found - kNames.begin());
  }();
  return isa <= most;
}

}  // namespace

bool has_avx2() {
  static const bool has = allowed(Isa::avx2) && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return has;
}

bool has_avx512() {
  static const bool has = allowed(Isa::avx512) && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                          __builtin_cpu_supports("avx512dq") && has_avx2();
  return has;
}

bool has_avx512_bf16() {
  static const bool has = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return allowed(Isa::avx512_bf16) && has_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 &&
           (a >> 5 & 1) != 0;
  }();
  return has;
}

bool has_amx_bf16() {
  static const bool has = [] {
    constexpr unsigned kTiles = 1u << 24, kProductsOfBf16 = 1u << 22;
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!allowed(Isa::amx) || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
    if ((d & kTiles) == 0 || (d & kProductsOfBf16) == 0) return false;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // Linux gives a process tiles when it asks for them
    return has_avx512_bf16() && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return has;
}

std::int64_t cache_bytes() {
  static const std::int64_t bytes = [] {
    const long said = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return said > 0 ? said : 1L << 20;
  }();
  return bytes;
}

}  // namespace graft::kernels::vectorized

std::string_view graft::kernels::vectorized_isa() {
  using namespace vectorized;
  const Isa most = has_amx_bf16()      ? Isa::amx
                   : has_avx512_bf16() ? Isa::avx512_bf16
                   : has_avx512()      ? Isa::avx512
                   : has_avx2()        ? Isa::avx2
                                       : Isa::none;
  return kNames[static_cast<std::size_t>(most)];
}
