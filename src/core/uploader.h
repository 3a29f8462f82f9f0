#pragma once

#include <array>
#include <map>
#include <memory>
#include <utility>

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
  /// The same to a new tensor, which takes turns with others of its size; `from` itself if it is there already.
  Tensor upload(const Tensor& from);

 private:
  struct Slot {
    std::shared_ptr<std::byte> pinned;
    Tensor buffer;
    Event copied, consumed;
  };
  struct Route {
    std::array<Slot, 2> slots;
    std::size_t next = 0;
  };
  void upload(Route& route, const Tensor& to, const void* from);

  Device device_;
  Stream copies_;
  std::map<std::pair<void*, std::size_t>, Route> routes_;  // by destination, null for new ones, and bytes
};

}  // namespace graft
