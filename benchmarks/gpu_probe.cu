// What a GPU can do at best, as far as programs reach it: the roofline that kernels are a share of. Prints one line of
// JSON.
//
//   copy    bytes a second of a copy within its memory, read and written ones both counted
//   fma     operations a second of f32 fused multiply-adds that stay in registers
//   f32, tf32, bf16   operations a second of cuBLAS's product of two 8192x8192 matrices of random numbers
//
// Each is the best of several repetitions, clocks at whatever the machine gives.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <cuda_runtime.h>

#if GRAFT_HAS_CUBLAS
#include <cublas_v2.h>
#include <cuda_bf16.h>
#endif

namespace {

void require(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "gpu_probe: %s: %s\n", what, cudaGetErrorString(status));
  std::exit(1);
}

// The shortest of `repetitions` times, in seconds, of what `work` gives to the default stream.
template <class Work>
double seconds(const Work& work, int repetitions = 10) {
  cudaEvent_t begin, end;
  require(cudaEventCreate(&begin), "event");
  require(cudaEventCreate(&end), "event");
  work();
  float best = 1e30f;
  for (int i = 0; i < repetitions; ++i) {
    require(cudaEventRecord(begin), "event");
    work();
    require(cudaEventRecord(end), "event");
    require(cudaEventSynchronize(end), "kernel");
    float milliseconds = 0;
    require(cudaEventElapsedTime(&milliseconds, begin, end), "time");
    best = milliseconds < best ? milliseconds : best;
  }
  require(cudaGetLastError(), "launch");
  return 1e-3 * best;
}

double copy_rate() {
  constexpr std::size_t kBytes = std::size_t{1} << 30;
  void *from = nullptr, *to = nullptr;
  require(cudaMalloc(&from, kBytes), "memory");
  require(cudaMalloc(&to, kBytes), "memory");
  require(cudaMemset(from, 1, kBytes), "memset");
  const double time = seconds([&] { require(cudaMemcpyAsync(to, from, kBytes, cudaMemcpyDeviceToDevice), "copy"); });
  require(cudaFree(from), "free");
  require(cudaFree(to), "free");
  return 2.0 * kBytes / time;
}

constexpr int kChains = 8;  // independent sums a thread, which hide the four cycles that each addition takes
constexpr int kRounds = 4096;

__global__ void fma_kernel(float* out, float a, float b) {
  float sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = static_cast<float>(threadIdx.x + i);
  for (int round = 0; round < kRounds; ++round) {
#pragma unroll
    for (int i = 0; i < kChains; ++i) sum[i] = fmaf(sum[i], a, b);
  }
  float total = 0;
  for (int i = 0; i < kChains; ++i) total += sum[i];
  if (total == 12345.f) *out = total;  // never, but the compiler cannot know
}

double fma_rate(int multiprocessors) {
  float* out = nullptr;
  require(cudaMalloc(&out, sizeof(float)), "memory");
  const int blocks = 8 * multiprocessors, threads = 256;
  const double time = seconds([&] { fma_kernel<<<blocks, threads>>>(out, 0.999f, 0.001f); });
  require(cudaFree(out), "free");
  return 2.0 * kChains * kRounds * blocks * threads / time;
}

#if GRAFT_HAS_CUBLAS
// From -1 to 1: powers and heat depend on the numbers, and zeros would flatter.
template <class T>
__global__ void random_kernel(T* to, std::size_t count) {
  for (std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; i < count;
       i += std::size_t{gridDim.x} * blockDim.x)
    to[i] = static_cast<T>(static_cast<float>((static_cast<unsigned>(i) * 2654435761u) >> 8) * 0x1p-23f - 1);
}

template <class T>
double product_rate(cublasHandle_t handle, cudaDataType type, cublasComputeType_t compute) {
  constexpr int kSize = 8192;
  constexpr std::size_t kCount = std::size_t{kSize} * kSize;
  T *a = nullptr, *b = nullptr, *c = nullptr;
  for (T** matrix : {&a, &b, &c}) {
    require(cudaMalloc(reinterpret_cast<void**>(matrix), kCount * sizeof(T)), "memory");
    random_kernel<<<1024, 256>>>(*matrix, kCount);
  }
  const float one = 1, zero = 0;
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  const double time = seconds([&] {
    const cublasStatus_t now = cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, kSize, kSize, kSize, &one, a, type, kSize,
                                            b, type, kSize, &zero, c, type, kSize, compute, CUBLAS_GEMM_DEFAULT);
    if (now != CUBLAS_STATUS_SUCCESS) status = now;
  });
  for (T* matrix : {a, b, c}) require(cudaFree(matrix), "free");
  return status == CUBLAS_STATUS_SUCCESS ? 2.0 * kSize * kSize * kSize / time : 0;
}
#endif

}  // namespace

int main() {
  cudaDeviceProp device{};
  require(cudaGetDeviceProperties(&device, 0), "no GPU can be used");
  std::printf(
      "{\"gpu\": \"%s\", \"architecture\": \"sm_%d%d\", \"multiprocessors\": %d, \"l2_bytes\": %d, \"memory_bytes\": "
      "%zu",
      device.name, device.major, device.minor, device.multiProcessorCount, device.l2CacheSize, device.totalGlobalMem);
  std::printf(", \"copy\": %.4g, \"fma\": %.4g", copy_rate(), fma_rate(device.multiProcessorCount));
#if GRAFT_HAS_CUBLAS
  cublasHandle_t handle = nullptr;
  if (cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS) {
    std::printf(", \"f32\": %.4g", product_rate<float>(handle, CUDA_R_32F, CUBLAS_COMPUTE_32F));
    std::printf(", \"tf32\": %.4g", product_rate<float>(handle, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32));
    std::printf(", \"bf16\": %.4g", product_rate<__nv_bfloat16>(handle, CUDA_R_16BF, CUBLAS_COMPUTE_32F));
    cublasDestroy(handle);
  }
#endif
  std::printf("}\n");
}
