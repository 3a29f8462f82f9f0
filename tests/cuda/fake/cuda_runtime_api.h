#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

/// A CUDA runtime without a GPU, as far as cuda/runtime/backend.cpp calls it: two GPUs that do nothing. It remembers
/// the calls, and answers what a test asks it to.

// NOLINTBEGIN(readability-identifier-naming,performance-no-int-to-ptr): the names are CUDA's, the handles point
// nowhere.
enum cudaError_t {
  cudaSuccess,
  cudaErrorInvalidValue,
  cudaErrorMemoryAllocation,
  cudaErrorInvalidDeviceFunction,
  cudaErrorNoDevice,
  cudaErrorNoKernelImageForDevice,
  cudaErrorStreamCaptureInvalidated,
  cudaErrorIllegalAddress,
  cudaErrorMisalignedAddress,
  cudaErrorInvalidAddressSpace,
  cudaErrorInvalidPc,
  cudaErrorIllegalInstruction,
  cudaErrorHardwareStackError,
  cudaErrorLaunchFailure,
  cudaErrorLaunchTimeout,
  cudaErrorAssert,
};

namespace graft::fake {

struct Call {
  std::string name;
  int gpu;  ///< the thread's current one
};

struct Runtime {
  int current = 0;
  std::size_t nodes = 1;  ///< of what is recorded
  std::vector<Call> calls;
  std::vector<int> copies;                                 ///< the direction of each
  std::map<std::string, std::deque<cudaError_t>> answers;  ///< to the next calls of a function; then it succeeds
  cudaError_t last = cudaSuccess;

  cudaError_t call(const char* name) {
    calls.push_back({name, current});
    std::deque<cudaError_t>& planned = answers[name];
    if (planned.empty()) return cudaSuccess;
    const cudaError_t answer = planned.front();
    planned.pop_front();
    return last = answer;
  }
  /// What a function that makes something returns, and its handle if it succeeds.
  template <class T>
  cudaError_t make(const char* name, T** made) {
    const cudaError_t status = call(name);
    *made = status == cudaSuccess ? reinterpret_cast<T*>(++last_handle) : nullptr;
    return status;
  }
  std::uintptr_t last_handle = 0x1000;
};
inline Runtime runtime;

}  // namespace graft::fake

using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
using cudaGraph_t = struct CUgraph_st*;
using cudaGraphExec_t = struct CUgraphExec_st*;
using cudaGraphNode_t = struct CUgraphNode_st*;
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
constexpr unsigned cudaStreamNonBlocking = 1;
struct cudaDeviceProp {
  char name[16];
  int major, minor, multiProcessorCount;
  std::size_t totalGlobalMem, sharedMemPerBlockOptin;
};

inline const char* cudaGetErrorString(cudaError_t) { return "as planned"; }
inline const char* cudaGetErrorName(cudaError_t) { return "planned"; }
inline cudaError_t cudaGetLastError() { return std::exchange(graft::fake::runtime.last, cudaSuccess); }

inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 2;
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* gpu) {
  *gpu = graft::fake::runtime.current;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int gpu) {
  const cudaError_t status = graft::fake::runtime.call("cudaSetDevice");
  if (status == cudaSuccess) graft::fake::runtime.current = gpu;
  return status;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp*, int) {
  return graft::fake::runtime.call("cudaGetDeviceProperties");
}

inline cudaError_t cudaMalloc(void** block, std::size_t) { return graft::fake::runtime.make("cudaMalloc", block); }
inline cudaError_t cudaFree(void*) { return graft::fake::runtime.call("cudaFree"); }
inline cudaError_t cudaMallocHost(void** block, std::size_t) {
  return graft::fake::runtime.make("cudaMallocHost", block);
}
inline cudaError_t cudaFreeHost(void*) { return graft::fake::runtime.call("cudaFreeHost"); }
inline cudaError_t cudaMemcpyAsync(void*, const void*, std::size_t, cudaMemcpyKind kind, cudaStream_t) {
  graft::fake::runtime.copies.push_back(kind);
  return graft::fake::runtime.call("cudaMemcpyAsync");
}

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return graft::fake::runtime.make("cudaStreamCreateWithFlags", stream);
}
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return graft::fake::runtime.call("cudaStreamDestroy"); }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return graft::fake::runtime.call("cudaStreamSynchronize"); }
inline cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t) {
  return graft::fake::runtime.call("cudaStreamWaitEvent");
}
inline cudaError_t cudaEventCreate(cudaEvent_t* event) { return graft::fake::runtime.make("cudaEventCreate", event); }
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return graft::fake::runtime.call("cudaEventDestroy"); }
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return graft::fake::runtime.call("cudaEventRecord"); }
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return graft::fake::runtime.call("cudaEventSynchronize"); }
inline cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 0;
  return graft::fake::runtime.call("cudaEventElapsedTime");
}

inline cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  return graft::fake::runtime.call("cudaStreamBeginCapture");
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  return graft::fake::runtime.make("cudaStreamEndCapture", graph);
}
inline cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
inline cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
inline cudaError_t cudaGraphGetNodes(cudaGraph_t, cudaGraphNode_t*, std::size_t* count) {
  *count = graft::fake::runtime.nodes;
  return graft::fake::runtime.call("cudaGraphGetNodes");
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t, unsigned long long) {
  return graft::fake::runtime.make("cudaGraphInstantiate", executable);
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t) { return graft::fake::runtime.call("cudaGraphDestroy"); }
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) {
  return graft::fake::runtime.call("cudaGraphLaunch");
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) { return graft::fake::runtime.call("cudaGraphExecDestroy"); }

inline cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) {
  return graft::fake::runtime.call("cudaFuncSetAttribute");
}
// NOLINTEND(readability-identifier-naming,performance-no-int-to-ptr)
