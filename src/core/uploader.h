#pragma once

#include <array>
#include <map>

#include "graft/core/tensor.h"

namespace graft {

/// Brings what changes from step to step to a device, batches and rates, while the device computes: nobody waits but
/// for the copy before the last to the same tensor.
///
/// ```
///   host   | fill pinned a | fill pinned b | (a copied?) fill a ...
///   copies     | a -> buffer a | b -> buffer b | ...
///   compute        | buffer a -> tensor, step | buffer b -> tensor, step ...
/// ```
/// The way over a buffer of the device lets the copy of one step go on while the step before still reads the tensor.
class Uploader {
 public:
  explicit Uploader(Device device);
  ~Uploader();
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;

  /// Copies `to.bytes()` bytes, in the order of the Context's stream. `from` may be changed when this returns.
  void upload(const Tensor& to, const void* from);

 private:
  struct Slot {
    std::byte* pinned = nullptr;
    Tensor buffer;
    Event copied, consumed;
  };
  struct Route {
    std::array<Slot, 2> slots;
    std::size_t next = 0;
    std::size_t bytes = 0;
  };
  void release(Route& route);

  Device device_;
  Stream copies_;
  std::map<void*, Route> routes_;  // by destination
};

}  // namespace graft
