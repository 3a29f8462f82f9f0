#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/caching_allocator.h"

namespace graft {

/// What a device says of itself.
struct DeviceDescription {
  std::string name;          ///< `NVIDIA H100 80GB HBM3`
  std::string architecture;  ///< `sm_90`
  int multiprocessors = 0;
  std::size_t memory = 0;            ///< bytes
  std::size_t shared_per_block = 0;  ///< bytes of shared memory that one block can have
};

/// A device beside the CPU, as core sees it: memory, copies and queues. The GPU's and the emulated one's are in
/// cuda/. Every `stream` is a handle that create_stream gave, or null for the default one. What destroys or frees does
/// not throw: an error of what is queued is left to whoever waits next.
class Backend {
 public:
  enum class Copy : std::uint8_t { to_device, to_host, on_device };

  virtual ~Backend() = default;

  virtual DeviceDescription describe() = 0;
  virtual CachingAllocator& memory() = 0;

  /// Given to the stream. Host memory may be reused, and what was copied to the host may be read, when this returns.
  virtual void copy(void* to, const void* from, std::size_t bytes, Copy direction, void* stream) = 0;
  /// Memory of the host that the device reads and writes by itself, so that a copy needs nobody to wait for it.
  virtual std::byte* allocate_pinned(std::size_t bytes) = 0;
  virtual void free_pinned(std::byte* memory) = 0;
  /// Given to the stream alone, where the host's side is pinned memory: nobody may change what is copied, or read what
  /// comes of it, until the stream has done the copy.
  virtual void copy_pinned(void* to, const void* from, std::size_t bytes, Copy direction, void* stream) = 0;
  /// `count` elements of 1, 2, 4 or 8 bytes, each the low bytes of `pattern`.
  virtual void fill(void* to, std::uint64_t pattern, std::size_t element_bytes, std::size_t count, void* stream) = 0;

  virtual void* create_stream() = 0;
  virtual void destroy_stream(void* stream) = 0;
  virtual void synchronize(void* stream) = 0;
  virtual void synchronize_all() = 0;
  /// As synchronize_all, for destructors: an error is left to whoever waits next.
  virtual void drain() noexcept = 0;

  virtual void* record_event(void* stream) = 0;
  virtual void destroy_event(void* event) = 0;
  virtual void wait_event(void* stream, void* event) = 0;
  virtual void synchronize_event(void* event) = 0;
  virtual double milliseconds_between(void* earlier, void* later) = 0;

  struct Recording {
    void* handle;
    std::size_t size;          ///< kernels and copies
    std::string kernels = {};  ///< their names
  };
  /// From here on what the stream is given is recorded and not run.
  virtual void begin_recording(void* stream) = 0;
  /// Throws Error if something made the recording incomplete.
  virtual Recording end_recording(void* stream) = 0;
  /// Ends a recording that nobody wants.
  virtual void abandon_recording(void* stream) noexcept = 0;
  virtual void replay(const Recording& recording, void* stream) = 0;
  virtual void destroy_recording(const Recording& recording) = 0;
};

/// The backend of a device that is not the CPU. Throws Error with the reason if there is none: a build without it, no
/// driver, no such device.
Backend& backend(Device device);

/// Pinned memory for copies to and from a device. Whoever frees it has waited for them.
std::shared_ptr<std::byte> pinned_memory(Device device, std::size_t bytes);

/// GRAFT_CUDA_WAIT=1: each kernel is waited for, so that one that fails can be named. Nothing is recorded then.
bool waits_for_each_kernel();

#if GRAFT_HAS_CUDA
namespace cuda {
Backend& backend(int index);
/// How many GPUs this machine has. Throws Error with the reason if none can be used.
int gpu_count();
/// What this build has of cuda/hopper: `proved` by a GPU, `not proved`, or `none`.
std::string_view hopper_kernels();
}  // namespace cuda
#endif
#if GRAFT_HAS_EMULATED
namespace emulated {
Backend& backend(int index);
}
#endif

}  // namespace graft
