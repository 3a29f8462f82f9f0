// The backend of GPUs on a CUDA runtime that only pretends: which GPU is asked, and what becomes of its refusals.

#include "core/backend.h"

#include <algorithm>

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/downloader.h"
#include "core/format.h"
#include "runtime/launches.h"
#include "runtime/on_gpu.h"
#include "support/expect.h"

namespace graft::cuda {

#if !GRAFT_HAS_CUDA
Backend& backend(int index);
#endif
void check_launch(const char* name, void* stream);
void allow_shared(const char* name, const void* kernel, std::size_t bytes);

// Stands for the kernel of runtime/fill.cu.
void fill_pattern(void*, std::uint64_t, std::size_t, std::size_t, void*) { fake::runtime.call("fill"); }

namespace {

class CudaBackend : public ::testing::Test {
 protected:
  CudaBackend() { fake::runtime = {}; }

  static std::size_t count(const std::string& name) {
    return static_cast<std::size_t>(std::count_if(fake::runtime.calls.begin(), fake::runtime.calls.end(),
                                                  [&](const fake::Call& call) { return call.name == name; }));
  }
  static void plan(const std::string& name, std::deque<cudaError_t> answers) {
    fake::runtime.answers[name] = std::move(answers);
  }
};

// Everything that a network does there but the launches, which choose the GPU in the same way.
void use(Backend& gpu) {
  void* const stream = gpu.create_stream();
  std::byte* const block = gpu.memory().allocate(256, Purpose::other, stream);
  gpu.fill(block, 0, 4, 64, stream);
  gpu.copy(block, block, 256, Backend::Copy::on_device, stream);
  gpu.copy(block, block, 256, Backend::Copy::to_host, stream);
  std::byte* const pinned = gpu.allocate_pinned(256);
  gpu.copy_pinned(pinned, block, 256, Backend::Copy::to_host, stream);
  gpu.free_pinned(pinned);
  void* const event = gpu.record_event(stream);
  gpu.wait_event(nullptr, event);
  gpu.destroy_event(event);
  gpu.begin_recording(stream);
  const Backend::Recording recording = gpu.end_recording(stream);
  gpu.replay(recording, stream);
  gpu.synchronize_all();
  gpu.memory().free(block, 256, Purpose::other, stream);
  gpu.destroy_stream(stream);
}

TEST_F(CudaBackend, WorksOnItsOwnGpu) {
  for (const int gpu : {1, 0}) {
    fake::runtime = {};
    use(backend(gpu));
    for (const fake::Call& call : fake::runtime.calls) {
      const bool anywhere =
          call.name == "cudaSetDevice" || call.name == "cudaEventDestroy" || call.name == "cudaFreeHost";
      EXPECT_TRUE(anywhere || call.gpu == gpu) << call.name;
    }
    EXPECT_EQ(fake::runtime.current, 0) << "the thread is where it was";
    EXPECT_EQ(count("cudaSetDevice") == 0, gpu == 0) << "where it is already it costs nothing";
  }
}

TEST_F(CudaBackend, OnGpuEndsWithItsScope) {
  {
    const OnGpu second(1);
    EXPECT_EQ(fake::runtime.current, 1);
    {
      const OnGpu first(0);
      EXPECT_EQ(fake::runtime.current, 0);
    }
    EXPECT_EQ(fake::runtime.current, 1);
  }
  EXPECT_EQ(fake::runtime.current, 0);
  plan("cudaSetDevice", {cudaErrorInvalidValue});
  EXPECT_ERROR(OnGpu(1), "cannot use cuda:1");
}

// After a fault every call meets it, destructors too.
TEST_F(CudaBackend, WhatDestroysDoesNotThrow) {
  Backend& gpu = backend(1);
  void* const stream = gpu.create_stream();
  std::byte* const block = gpu.memory().allocate(512, Purpose::other, stream);
  gpu.memory().free(block, 512, Purpose::other, stream);
  for (const char* call : {"cudaSetDevice", "cudaStreamSynchronize", "cudaStreamDestroy", "cudaFree",
                           "cudaGraphExecDestroy", "cudaEventDestroy", "cudaFreeHost"})
    plan(call, std::deque<cudaError_t>(4, cudaErrorIllegalAddress));
  EXPECT_NO_THROW(gpu.drain());
  EXPECT_NO_THROW(gpu.destroy_stream(stream));
  EXPECT_NO_THROW(gpu.destroy_recording({}));
  EXPECT_NO_THROW(gpu.destroy_event(nullptr));
  EXPECT_NO_THROW(gpu.free_pinned(nullptr));
}

// Only what comes to memory that is not pinned is there when the call returns.
TEST_F(CudaBackend, CopiesAreWaitedForOnTheirWayToPageableMemoryAlone) {
  Backend& gpu = backend(0);
  const std::pair<Backend::Copy, cudaMemcpyKind> directions[] = {{Backend::Copy::to_device, cudaMemcpyHostToDevice},
                                                                 {Backend::Copy::to_host, cudaMemcpyDeviceToHost},
                                                                 {Backend::Copy::on_device, cudaMemcpyDeviceToDevice}};
  for (const auto& [direction, kind] : directions) {
    fake::runtime = {};
    gpu.copy_pinned(nullptr, nullptr, 4, direction, nullptr);
    EXPECT_EQ(count("cudaStreamSynchronize"), 0u);
    gpu.copy(nullptr, nullptr, 4, direction, nullptr);
    EXPECT_EQ(count("cudaStreamSynchronize"), direction == Backend::Copy::to_host ? 1u : 0u);
    EXPECT_THAT(fake::runtime.copies, testing::ElementsAre(kind, kind));
  }
}

#if GRAFT_HAS_CUDA  // else the library knows no such device
TEST_F(CudaBackend, ADownloadIsWaitedForWhenItIsHandedOver) {
  const Device device{Device::Kind::cuda, 0};
  int used = 0;
  {
    Downloader downloader(device);
    const auto give = [&] {
      downloader.download({Tensor::empty({3}, DType::f32, device)}, [&](std::span<const Tensor>) { ++used; });
    };
    give();
    EXPECT_EQ(count("cudaStreamWaitEvent"), 1u) << "the copy waits for the computation";
    EXPECT_EQ(count("cudaEventSynchronize"), 0u);
    give();
    EXPECT_EQ(count("cudaEventSynchronize"), 1u) << "the one before";
    EXPECT_EQ(used, 1);
    plan("cudaEventSynchronize", {cudaErrorIllegalAddress});
    EXPECT_ERROR(downloader.finish(), "a kernel failed");
    EXPECT_EQ(used, 1);
    EXPECT_EQ(count("cudaStreamSynchronize"), 0u);
    EXPECT_EQ(count("cudaFreeHost"), 0u);
  }
  EXPECT_EQ(count("cudaMallocHost"), 2u);
  EXPECT_EQ(count("cudaFreeHost"), 2u);
  EXPECT_THAT(fake::runtime.copies, testing::ElementsAre(cudaMemcpyDeviceToHost, cudaMemcpyDeviceToHost));
  release_cached_memory(device);
}
#endif

// Another thread's recording would be broken off.
TEST_F(CudaBackend, AWaitForTheDeviceLeavesOutWhatIsRecorded) {
  Backend& gpu = backend(0);
  const auto waits = [&] {
    fake::runtime.calls.clear();
    gpu.synchronize_all();
    return std::count_if(fake::runtime.calls.begin(), fake::runtime.calls.end(),
                         [](const fake::Call& call) { return call.name == "cudaStreamSynchronize"; });
  };
  const auto before = waits();
  void* const stream = gpu.create_stream();
  EXPECT_EQ(waits(), before + 1);
  gpu.begin_recording(stream);
  EXPECT_EQ(waits(), before);
  gpu.destroy_recording(gpu.end_recording(stream));
  EXPECT_EQ(waits(), before + 1);
  gpu.destroy_stream(stream);
  EXPECT_EQ(waits(), before);
}

TEST_F(CudaBackend, AFaultIsToldWithWhatWasLaunched) {
  Backend& gpu = backend(0);
  count_launch("softmax");
  gpu.replay({nullptr, 3}, nullptr);
  const char* const told = "softmax, a recording of 3 kernels and copies. GRAFT_CUDA_WAIT=1";
  plan("cudaStreamSynchronize", {cudaErrorIllegalAddress});
  EXPECT_ERROR(gpu.synchronize(nullptr), told);
  plan("cudaMemcpyAsync", {cudaErrorIllegalAddress});
  EXPECT_ERROR(gpu.copy(nullptr, nullptr, 4, Backend::Copy::on_device, nullptr), told);
  fake::runtime.last = cudaErrorIllegalAddress;
  EXPECT_ERROR(check_launch("conv2d", nullptr), told);
}

TEST_F(CudaBackend, AFaultInARecordingIsToldWithItsKernels) {
  Backend& gpu = backend(0);
  const auto recording_of = [&](std::initializer_list<const char*> kernels) {
    gpu.begin_recording(nullptr);
    for (const char* name : kernels) count_launch(name);
    fake::runtime.nodes = kernels.size();
    return gpu.end_recording(nullptr);
  };
  const Backend::Recording step = recording_of({"conv2d", "relu", "conv2d", "sgd"}), other = recording_of({"softmax"});
  gpu.begin_recording(nullptr);
  count_launch("abandoned");
  gpu.abandon_recording(nullptr);
  for (int i = 0; i < 10; ++i) {
    gpu.replay(step, nullptr);
    gpu.replay(other, nullptr);
  }
  count_launch("add");
  plan("cudaStreamSynchronize", {cudaErrorIllegalAddress});
  EXPECT_ERROR(
      gpu.synchronize(nullptr),
      "a recording of 4 kernels and copies (conv2d, relu, sgd), a recording of 1 kernels and copies (softmax), "
      "add. GRAFT_CUDA_WAIT=1");
  EXPECT_THAT(last_launches(), testing::Not(testing::Contains("abandoned")));
}

TEST_F(CudaBackend, ARecordingOfManyKernelsIsCutOff) {
  Backend& gpu = backend(0);
  gpu.begin_recording(nullptr);
  for (int i = 1; i <= 35; ++i) count_launch(fmt::format("kernel{}", i).c_str());
  const std::string kernels = gpu.end_recording(nullptr).kernels;
  EXPECT_THAT(kernels, testing::StartsWith("kernel1, kernel2, "));
  EXPECT_THAT(kernels, testing::EndsWith(", kernel32 and 3 more"));
}

// Kernels with more shared memory than every one may have are asked for before they are launched.
TEST_F(CudaBackend, ABuildForAnotherArchitectureSaysSo) {
  for (const cudaError_t status : {cudaErrorNoKernelImageForDevice, cudaErrorInvalidDeviceFunction}) {
    plan("cudaFuncSetAttribute", {status});
    EXPECT_ERROR(allow_shared("conv2d", nullptr, 65536), "[conv2d] this build has no code for this GPU's architecture");
    fake::runtime.last = status;
    EXPECT_ERROR(check_launch("softmax", nullptr), "[softmax] this build has no code for this GPU's architecture");
  }
  plan("cudaFuncSetAttribute", {cudaErrorInvalidValue});
  EXPECT_ERROR(allow_shared("conv2d", nullptr, 65536),
               "[conv2d] a block of this GPU cannot have 65536 bytes of shared memory");
  EXPECT_NO_THROW(check_launch("softmax", nullptr)) << "the error belonged to another call";
}

TEST_F(CudaBackend, ARecordingThatFindsNoMemoryTakesWhatIsCached) {
  Backend& gpu = backend(0);
  fake::runtime.nodes = 5;
  std::byte* const kept = gpu.memory().allocate(1024, Purpose::parameters);
  gpu.memory().free(gpu.memory().allocate(4096, Purpose::other), 4096, Purpose::other);
  plan("cudaGraphInstantiate", {cudaErrorMemoryAllocation});
  EXPECT_NE(gpu.end_recording(nullptr).handle, nullptr);
  EXPECT_EQ(count("cudaFree"), 1u);
  plan("cudaGraphInstantiate", {cudaErrorMemoryAllocation, cudaErrorMemoryAllocation});
  EXPECT_ERROR(gpu.end_recording(nullptr),
               "[memory] cuda:0 has no memory for a recording of 5 kernels and copies left; graft holds 1024 bytes: "
               "1024 in parameters");
  plan("cudaGraphLaunch", {cudaErrorMemoryAllocation, cudaErrorMemoryAllocation});
  EXPECT_ERROR(gpu.replay({nullptr, 5}, nullptr), "has no memory for a recording of 5 kernels and copies left");
  EXPECT_EQ(count("cudaGraphDestroy"), 2u);
  EXPECT_NO_THROW(check_launch("softmax", nullptr));
  gpu.memory().free(kept, 1024, Purpose::parameters);
}

TEST_F(CudaBackend, ARecordingThatIsAbandonedIsNotMade) {
  Backend& gpu = backend(0);
  gpu.abandon_recording(nullptr);
  EXPECT_EQ(count("cudaGraphDestroy"), 1u);
  plan("cudaStreamEndCapture", {cudaErrorStreamCaptureInvalidated});
  gpu.abandon_recording(nullptr);
  EXPECT_EQ(count("cudaGraphDestroy"), 1u);
  EXPECT_EQ(count("cudaGraphInstantiate"), 0u);
  EXPECT_NO_THROW(check_launch("softmax", nullptr));
}

}  // namespace
}  // namespace graft::cuda
