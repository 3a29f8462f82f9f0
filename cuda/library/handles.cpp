#include "library/handles.h"

#include <map>
#include <mutex>
#include <vector>

#include <cuda_runtime_api.h>

#include "core/backend.h"
#include "core/format.h"
#include "library/cublas.h"
#include "library/loading.h"

namespace graft::library {
namespace {

cudaStream_t stream_of(const Context& context) { return static_cast<cudaStream_t>(context.stream.handle()); }

// Handles that no thread uses. Never destroyed, and no handle in it: CUDA may be gone when statics are.
struct Spare {
  std::mutex mutex;
  std::multimap<int, cudnnHandle_t> handles;
};
Spare& spare() {
  static auto* const one = new Spare;
  return *one;
}

class ThreadHandles {
 public:
  ~ThreadHandles() {
    const std::lock_guard lock(spare().mutex);
    spare().handles.merge(mine_);
  }

  cudnnHandle_t get(int device) {
    if (const auto found = mine_.find(device); found != mine_.end()) return found->second;
    {
      const std::lock_guard lock(spare().mutex);
      if (auto node = spare().handles.extract(device)) return mine_.insert(std::move(node))->second;
    }
    nvrtc();
    cudnnHandle_t fresh = nullptr;
    const cudnnStatus_t status = cudnnCreate(&fresh);
    check(status == CUDNN_STATUS_SUCCESS, "[cudnn] no handle for cuda:{}: {}", device, cudnnGetErrorString(status));
    return mine_.emplace(device, fresh)->second;
  }

 private:
  std::multimap<int, cudnnHandle_t> mine_;
};

}  // namespace

cudnnHandle_t cudnn_handle(const Context& context) {
  thread_local ThreadHandles handles;
  const cudnnHandle_t handle = handles.get(context.device.index);
  const cudnnStatus_t status = cudnnSetStream(handle, stream_of(context));
  check(status == CUDNN_STATUS_SUCCESS, "[cudnn] a handle took no stream: {}", cudnnGetErrorString(status));
  return handle;
}

cublasLtHandle_t cublas_handle(const Context& context) {
  static std::mutex mutex;
  static auto* const handles = new std::map<int, cublasLtHandle_t>;
  const std::lock_guard lock(mutex);
  cublasLtHandle_t& handle = (*handles)[context.device.index];
  if (handle == nullptr) {
    const cublasStatus_t status = cublas().create(&handle);
    check(status == CUBLAS_STATUS_SUCCESS, "[cublas] no handle for {}: {}", context.device,
          cublas().status_string(status));
  }
  return handle;
}

bool is_recording(const Context& context) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return cudaStreamIsCapturing(stream_of(context), &status) == cudaSuccess && status != cudaStreamCaptureStatusNone;
}

std::string_view gpu_name(const Context& context) {
  static std::mutex mutex;
  static std::map<int, std::string> names;
  const std::lock_guard lock(mutex);
  std::string& name = names[context.device.index];
  if (name.empty()) name = backend(context.device).describe().name;
  return name;
}

}  // namespace graft::library
