#pragma once

#include <memory>

#include "graft/core/device.h"

namespace graft {

class Event;

/// A queue of work on a device. Kernels and copies given to one stream run in the order in which they were given; only
/// events order those of different streams. On the CPU everything runs at once, and a stream is only a name.
///
/// A Stream is a handle: copies are the same queue, which lives as long as one of them.
class Stream {
 public:
  /// The default queue of whatever device it is used on.
  Stream() = default;
  /// A queue of its own. Throws Error if there is no such device.
  static Stream create(Device device);

  /// Returns when all work given so far is done. Throws Error if a kernel among it failed, naming the kernel.
  void synchronize(Device device) const;
  /// Work given from now on starts after what the event marks.
  void wait(const Event& event) const;
  /// The backend's own handle, null for the default queue.
  void* handle() const { return handle_.get(); }
  friend bool operator==(const Stream& a, const Stream& b) { return a.handle_ == b.handle_; }

 private:
  std::shared_ptr<void> handle_;
};

/// A mark in a stream: everything that was given to it before.
class Event {
 public:
  /// Marks the end of what `stream` of `device` was given so far.
  static Event record(Device device, const Stream& stream);

  Device device() const { return device_; }
  void* handle() const { return handle_.get(); }
  /// Returns when what it marks is done.
  void synchronize() const;
  /// Milliseconds of device time from an earlier mark to this one; waits for both. Zero on the emulated device, which
  /// has no time.
  double milliseconds_since(const Event& earlier) const;

 private:
  Device device_;
  std::shared_ptr<void> handle_;
};

/// Returns when a device has done all its work, of every stream. Throws Error if a kernel among it failed.
void synchronize(Device device);

}  // namespace graft
