#pragma once

#include <functional>

#include "graft/core/stream.h"

namespace graft {

/// Kernels and copies of a device that were recorded once and run again and again with one launch, without the CPU's
/// share of the work.
///
/// What is recorded are addresses: a replay reads and writes the tensors that the recorded calls did, whatever has
/// become of their handles, and counts as a write of those that they wrote. Memory that was allocated during the
/// recording belongs to the Graph and lives as long as it does. A Graph is a handle; the last of its copies waits for
/// replays that are not done.
class Graph {
 public:
  /// Whether what a device does again and again is to be recorded. Not on the CPU, and not with GRAFT_CUDA_WAIT=1,
  /// which waits for each kernel.
  static bool wanted(Device device);

  /// Calls `work` once. What it gives to `device` on this thread is recorded and not run. Throws Error if `work` reads
  /// or writes host memory or waits for the device, which a recording cannot do, and whatever `work` throws.
  static Graph record(Device device, const std::function<void()>& work);

  /// Gives the recorded work to a stream of the device.
  void replay(const Stream& stream = {}) const;
  /// How many kernels and copies were recorded.
  std::size_t size() const;

 private:
  struct Recorded;
  std::shared_ptr<Recorded> recorded_;
};

}  // namespace graft
