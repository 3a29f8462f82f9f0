#include "core/backend.h"

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>

#include <cuda_runtime_api.h>

#include "core/format.h"
#include "runtime/launches.h"
#include "runtime/on_gpu.h"

namespace graft::cuda {

void fill_pattern(void* to, std::uint64_t pattern, std::size_t element_bytes, std::size_t count, void* stream);

namespace {

// Whether a kernel before did what ends the use of the device.
bool is_fault(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorIllegalInstruction:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
      return true;
    default:
      return false;
  }
}

// A GPU says that a kernel failed, but not which, and only to whoever waits next.
[[noreturn]] void fail_kernel(cudaError_t status) {
  fail("[cuda] a kernel failed: {} ({}); what was launched last: {}. GRAFT_CUDA_WAIT=1 waits for each, and names it",
       cudaGetErrorString(status), cudaGetErrorName(status), fmt::join(last_launches(), ", "));
}

// Errors of what runs on the device, which everything after it meets too.
void require_done(cudaError_t status) {
  if (status != cudaSuccess) fail_kernel(status);
}

void require(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // an error that belongs to one call is forgotten; a fault of a kernel stays
  if (is_fault(status)) fail_kernel(status);
  fail("[cuda] {}: {} ({})", what, cudaGetErrorString(status), cudaGetErrorName(status));
}

// What a launch, or what prepares one, was refused for.
[[noreturn]] void refuse_launch(const char* name, cudaError_t status, std::string_view what) {
  cudaGetLastError();
  if (is_fault(status)) fail_kernel(status);
  check(status != cudaErrorNoKernelImageForDevice && status != cudaErrorInvalidDeviceFunction,
        "[{}] this build has no code for this GPU's architecture: configure with CMAKE_CUDA_ARCHITECTURES=native",
        name);
  fail("[{}] {}: {} ({})", name, what, cudaGetErrorString(status), cudaGetErrorName(status));
}

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int index)
      : index_(index), memory_({Device::Kind::cuda, index}, {.allocate = allocate, .free = free}) {}

  DeviceDescription describe() override {
    cudaDeviceProp properties{};
    require(cudaGetDeviceProperties(&properties, index_), "cannot ask the device for its properties");
    return {.name = properties.name,
            .architecture = fmt::format("sm_{}{}", properties.major, properties.minor),
            .multiprocessors = properties.multiProcessorCount,
            .memory = properties.totalGlobalMem,
            .shared_per_block = properties.sharedMemPerBlockOptin};
  }

  CachingAllocator& memory() override { return memory_; }

  void copy(void* to, const void* from, std::size_t bytes, Copy direction, void* stream) override {
    copy_pinned(to, from, bytes, direction, stream);
    // From pageable memory the runtime returns when it has read everything, so that only the way back waits.
    if (direction == Copy::to_host) synchronize(stream);
  }

  std::byte* allocate_pinned(std::size_t bytes) override {
    const OnGpu here(index_);
    void* memory = nullptr;
    require(cudaMallocHost(&memory, bytes), fmt::format("cannot allocate {} bytes of pinned memory", bytes));
    return static_cast<std::byte*>(memory);
  }
  void free_pinned(std::byte* memory) override { cudaFreeHost(memory); }
  void copy_pinned(void* to, const void* from, std::size_t bytes, Copy direction, void* stream) override {
    const OnGpu here(index_);
    if (direction != Copy::on_device) refuse_while_recording(stream, "a copy between it and the device");
    constexpr std::array kKinds{cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice};
    require(cudaMemcpyAsync(to, from, bytes, kKinds[static_cast<std::size_t>(direction)], queue(stream)),
            fmt::format("cannot copy {} bytes", bytes));
  }

  void fill(void* to, std::uint64_t pattern, std::size_t element_bytes, std::size_t count, void* stream) override {
    const OnGpu here(index_);
    fill_pattern(to, pattern, element_bytes, count, stream);
  }

  void* create_stream() override {
    const OnGpu here(index_);
    cudaStream_t stream = nullptr;
    require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cannot create a stream");
    note(stream, false);
    return stream;
  }
  void destroy_stream(void* stream) override {
    const OnGpu here(index_, std::nothrow);
    cudaStreamSynchronize(queue(stream));
    memory_.release_cached(stream);  // before a new stream may get this handle
    const std::lock_guard lock(mutex_);
    recorded_.erase(stream);
    cudaStreamDestroy(queue(stream));
  }
  void synchronize(void* stream) override {
    const OnGpu here(index_);
    refuse_while_recording(stream, "a wait for the device");
    require_done(cudaStreamSynchronize(queue(stream)));
  }
  void synchronize_all() override {
    const OnGpu here(index_);
    require_done(wait_for_all());
  }
  void drain() noexcept override {
    const OnGpu here(index_, std::nothrow);
    wait_for_all();  // a fault stays
  }

  void* record_event(void* stream) override {
    const OnGpu here(index_);
    cudaEvent_t event = nullptr;
    require(cudaEventCreate(&event), "cannot create an event");
    require(cudaEventRecord(event, queue(stream)), "cannot record an event");
    return event;
  }
  void destroy_event(void* event) override { cudaEventDestroy(static_cast<cudaEvent_t>(event)); }
  void wait_event(void* stream, void* event) override {
    const OnGpu here(index_);
    require(cudaStreamWaitEvent(queue(stream), static_cast<cudaEvent_t>(event)), "cannot wait for an event");
  }
  void synchronize_event(void* event) override { require_done(cudaEventSynchronize(static_cast<cudaEvent_t>(event))); }
  double milliseconds_between(void* earlier, void* later) override {
    synchronize_event(earlier);
    synchronize_event(later);
    float milliseconds = 0;
    require(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(earlier), static_cast<cudaEvent_t>(later)),
            "cannot take the time between events");
    return milliseconds;
  }

  void begin_recording(void* stream) override {
    const OnGpu here(index_);
    note(stream, true);
    require(cudaStreamBeginCapture(queue(stream), cudaStreamCaptureModeThreadLocal), "cannot record");
    begin_recorded_launches();
  }
  Recording end_recording(void* stream) override {
    const OnGpu here(index_);
    std::string kernels = end_recorded_launches();
    cudaGraph_t graph = nullptr;
    const cudaError_t status = cudaStreamEndCapture(queue(stream), &graph);
    note(stream, false);
    require(status, "cannot record");
    const std::unique_ptr<CUgraph_st, decltype(&cudaGraphDestroy)> owned(graph, cudaGraphDestroy);
    std::size_t size = 0;
    require(cudaGraphGetNodes(graph, nullptr, &size), "cannot record");
    cudaGraphExec_t executable = nullptr;
    with_memory("cannot record", size, [&] { return cudaGraphInstantiate(&executable, graph, 0); });
    return {executable, size, std::move(kernels)};
  }
  void abandon_recording(void* stream) noexcept override {
    const OnGpu here(index_, std::nothrow);
    end_recorded_launches();
    cudaGraph_t graph = nullptr;
    cudaStreamEndCapture(queue(stream), &graph);
    note(stream, false);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();  // of a capture that was invalid already
  }
  void replay(const Recording& recording, void* stream) override {
    const OnGpu here(index_);
    note_replay(recording.size, recording.kernels);
    with_memory("cannot replay", recording.size, [&] {  // the first one takes memory
      return cudaGraphLaunch(static_cast<cudaGraphExec_t>(recording.handle), queue(stream));
    });
  }
  void destroy_recording(const Recording& recording) override {
    cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(recording.handle));
  }

 private:
  static void refuse_while_recording(void* stream, std::string_view what) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    require(cudaStreamIsCapturing(queue(stream), &status), "cannot ask a stream whether it is recorded");
    check(status == cudaStreamCaptureStatusNone, "[graph] the host takes part in a recording: {}", what);
  }

  // What CUDA does for a recording of `size` kernels and copies may need memory that only lies in the cache.
  template <class Call>
  void with_memory(std::string_view what, std::size_t size, const Call& call) {
    cudaError_t status = call();
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      memory_.release_cached();
      status = call();
    }
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      memory_.fail_full(fmt::format("memory for a recording of {} kernels and copies", size));
    }
    require(status, what);
  }

  void note(void* stream, bool recorded) {
    const std::lock_guard lock(mutex_);
    recorded_[stream] = recorded;
  }
  // A wait for the device as a whole would break off what another thread records.
  cudaError_t wait_for_all() {
    const std::lock_guard lock(mutex_);
    cudaError_t first = cudaSuccess;
    for (const auto& [stream, recorded] : recorded_) {
      const cudaError_t status = recorded ? cudaSuccess : cudaStreamSynchronize(queue(stream));
      if (first == cudaSuccess) first = status;
    }
    return first;
  }

  static cudaStream_t queue(void* stream) { return static_cast<cudaStream_t>(stream); }

  // Memory may be asked for and given back while this thread records, for neither is part of a recording; CUDA forbids
  // both then unless it is told that this is meant.
  class WhileRecordingToo {
   public:
    WhileRecordingToo() { cudaThreadExchangeStreamCaptureMode(&mode_); }
    ~WhileRecordingToo() { cudaThreadExchangeStreamCaptureMode(&mode_); }

   private:
    cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
  };

  static std::byte* allocate(std::size_t bytes, int index, const void*) {
    const OnGpu here(index);
    const WhileRecordingToo allowed;
    void* block = nullptr;
    const cudaError_t status = cudaMalloc(&block, bytes);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    require(status, fmt::format("cannot allocate {} bytes", bytes));
    return static_cast<std::byte*>(block);
  }
  static void free(std::byte* block, int index, const void*) {
    const OnGpu here(index, std::nothrow);
    const WhileRecordingToo allowed;
    cudaFree(block);
  }

  int index_;
  CachingAllocator memory_;
  std::mutex mutex_;
  std::map<void*, bool> recorded_{{nullptr, false}};  // every stream, and whether it is being recorded
};

constexpr int kMostDevices = 64;

int count_devices() {
  int driver = 0;  // the runtime calls one that is not there insufficient
  check(cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0,
        "[cuda] no GPU can be used: this machine has no NVIDIA driver");
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  check(status == cudaSuccess || status == cudaErrorNoDevice, "[cuda] no GPU can be used: {} ({})",
        cudaGetErrorString(status), cudaGetErrorName(status));
  check(count > 0, "[cuda] no GPU can be used: this machine has none");
  return std::min(count, kMostDevices);
}

}  // namespace

OnGpu::OnGpu(int index) {
  int now = 0;
  require(cudaGetDevice(&now), "cannot ask which GPU is in use");
  if (now == index) return;
  require(cudaSetDevice(index), fmt::format("cannot use cuda:{}", index));
  previous_ = now;
}
OnGpu::OnGpu(int index, std::nothrow_t) noexcept {
  int now = 0;
  if (cudaGetDevice(&now) == cudaSuccess && now != index && cudaSetDevice(index) == cudaSuccess) previous_ = now;
}
OnGpu::~OnGpu() {
  if (previous_ >= 0) cudaSetDevice(previous_);
}

int gpu_count() {
  static const int count = count_devices();
  return count;
}

std::string_view hopper_kernels() {
#if GRAFT_HAS_HOPPER
  return GRAFT_HOPPER_PROVED ? "proved" : "not proved";
#else
  return "none";
#endif
}

Backend& backend(int index) {
  const int count = gpu_count();
  check(index >= 0 && index < count, "[device] cuda:{}: this machine has {} GPU{}", index, count,
        count == 1 ? "" : "s");
  // Never destroyed: tensors with static lifetime may be freed after everything else.
  static std::array<std::atomic<CudaBackend*>, kMostDevices> backends{};
  auto& slot = backends[static_cast<std::size_t>(index)];
  if (CudaBackend* known = slot.load()) return *known;
  auto* fresh = new CudaBackend(index);
  CudaBackend* expected = nullptr;
  if (slot.compare_exchange_strong(expected, fresh)) return *fresh;
  delete fresh;
  return *expected;
}

void check_launch(const char* name, void* stream) {
  cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) refuse_launch(name, status, "the kernel could not be launched");
  static const bool waits = waits_for_each_kernel();
  if (!waits) return;
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &capture);
  if (capture != cudaStreamCaptureStatusNone) return;
  status = cudaStreamSynchronize(static_cast<cudaStream_t>(stream));
  check(status == cudaSuccess, "[{}] the kernel failed: {} ({})", name, cudaGetErrorString(status),
        cudaGetErrorName(status));
}

void allow_shared(const char* name, const void* kernel, std::size_t bytes) {
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (status != cudaSuccess)
    refuse_launch(name, status, fmt::format("a block of this GPU cannot have {} bytes of shared memory", bytes));
}

}  // namespace graft::cuda
