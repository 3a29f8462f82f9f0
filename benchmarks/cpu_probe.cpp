// What this CPU can do at best with a number of threads, as far as programs reach it: the roofline that steps are a
// share of.
//
//   f32    operations a second of multiply-adds that stay in registers
//   bf16   the same of dot products of bf16 pairs, by AMX's tiles or AVX-512's instruction where the CPU has one
//   copy   bytes a second of a copy beyond the caches, read and written ones both counted
//
// The first line it prints is JSON and names the instructions. Then it answers each line `rates` with a line of JSON,
// so that tools/bench can measure in turn with the steps themselves: clocks and neighbours change within minutes.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#if defined(__x86_64__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

using Json = nlohmann::ordered_json;

// So many independent sums hide the latency of an addition, and leave of 16 or 32 registers some for the factors. They
// begin with different numbers: the compiler would compute equal ones once.
constexpr int kChains = 12, kChains512 = 24;

// A loop of a thread's: what it returns has to be used, or the compiler would leave it out.
struct Loop {
  std::string with;
  double operations;  // of a round
  std::function<float(long rounds)> run;
};

float fma_portable(long rounds) {
  constexpr int kWidth = 8 * kChains;
  float sums[kWidth];
  for (int i = 0; i < kWidth; ++i) sums[i] = static_cast<float>(i);
  for (long round = 0; round < rounds; ++round)
    for (float& sum : sums) sum = sum * 0.999f + 0.001f;
  float total = 0;
  for (const float sum : sums) total += sum;
  return total;
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) float fma_avx2(long rounds) {
  __m256 sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (long round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
    for (__m256& sum : sums) sum = _mm256_fmadd_ps(sum, a, b);
  }
  for (const __m256& sum : sums) sums[0] = _mm256_add_ps(sums[0], sum);
  return _mm256_cvtss_f32(sums[0]);
}

__attribute__((target("avx512f"))) float fma_avx512(long rounds) {
  __m512 sums[kChains512];
  for (int i = 0; i < kChains512; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (long round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
    for (__m512& sum : sums) sum = _mm512_fmadd_ps(sum, a, b);
  }
  for (const __m512& sum : sums) sums[0] = _mm512_add_ps(sums[0], sum);
  return _mm512_cvtss_f32(sums[0]);
}

__attribute__((target("avx512bf16,avx512f"))) float dot_avx512(long rounds) {
  __m512 sums[kChains512];
  for (int i = 0; i < kChains512; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512bh a = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3c23)), b = a;  // 0.01
  for (long round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
    for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, a, b);
  }
  for (const __m512& sum : sums) sums[0] = _mm512_add_ps(sums[0], sum);
  return _mm512_cvtss_f32(sums[0]);
}

// Four tiles of sums, as many as two tiles of each operand make.
__attribute__((target("amx-tile,amx-bf16"))) float dot_amx(long rounds) {
  struct alignas(64) {
    std::uint8_t palette = 1, start = 0, reserved[14] = {};
    std::uint16_t bytes_of_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } const shape;
  _tile_loadconfig(&shape);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (long round = 0; round < rounds; ++round) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  alignas(64) float sums[256];
  _tile_stored(0, sums, 64);
  _tile_release();
  return sums[0];
}

// Linux gives a process the tiles when it asks for them.
bool tiles_granted() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return __builtin_cpu_supports("amx-bf16") && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

Loop f32_loop() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return {"avx512f", 2.0 * 16 * kChains512, fma_avx512};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {"fma", 2.0 * 8 * kChains, fma_avx2};
#endif
  return {"compiled", 2.0 * 8 * kChains, fma_portable};
}

Loop bf16_loop() {
#if defined(__x86_64__)
  if (tiles_granted()) return {"amx-bf16", 4 * 2.0 * 16 * 16 * 32, dot_amx};
  if (__builtin_cpu_supports("avx512bf16")) return {"avx512bf16", 2.0 * 32 * kChains512, dot_avx512};
#endif
  return f32_loop();
}

// Seconds until all threads have done it.
double seconds(int threads, const std::function<void(int thread)>& work) {
  const auto began = std::chrono::steady_clock::now();
  std::vector<std::thread> running;
  for (int i = 0; i < threads; ++i) running.emplace_back(work, i);
  for (std::thread& thread : running) thread.join();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

constexpr double kLongEnough = 0.02;  // beside which starting threads is nothing

double operations_a_second(const Loop& loop, int threads) {
  std::vector<float> used(static_cast<std::size_t>(threads));
  const auto time = [&](long rounds) {
    return seconds(threads, [&](int thread) { used[static_cast<std::size_t>(thread)] = loop.run(rounds); });
  };
  long rounds = 1000;
  while (time(rounds) < kLongEnough) rounds *= 2;
  const double best = std::min({time(rounds), time(rounds), time(rounds)});
  return loop.operations * static_cast<double>(rounds) * threads / best;
}

class Copy {
 public:
  explicit Copy(int threads)
      : threads_(threads), from_(static_cast<std::size_t>(threads) * kBytes, 1), to_(from_.size()) {}

  double bytes_a_second() {
    const auto copy = [&](int thread) {
      const std::size_t offset = static_cast<std::size_t>(thread) * kBytes;
      std::memcpy(to_.data() + offset, from_.data() + offset, kBytes);
    };
    const double best = std::min({seconds(threads_, copy), seconds(threads_, copy), seconds(threads_, copy)});
    return 2.0 * static_cast<double>(from_.size()) / best;
  }

 private:
  static constexpr std::size_t kBytes = std::size_t{1} << 27;  // a thread's
  int threads_;
  std::vector<char> from_, to_;
};

}  // namespace

int main(int argc, char** argv) {
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  CLI::App app("What a CPU can do at best: the roofline of tools/bench");
  app.add_option("--threads", threads)->check(CLI::PositiveNumber)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const Loop f32 = f32_loop(), bf16 = bf16_loop();
  Copy copy(threads);
  std::cout << Json{{"threads", threads}, {"f32_with", f32.with}, {"bf16_with", bf16.with}}.dump() << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    Json answer{{"error", "expected rates, got '" + line + "'"}};
    if (line == "rates")
      answer = {{"f32", operations_a_second(f32, threads)},
                {"bf16", operations_a_second(bf16, threads)},
                {"copy", copy.bytes_a_second()}};
    std::cout << answer.dump() << std::endl;
  }
}
