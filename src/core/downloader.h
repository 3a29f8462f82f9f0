#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "graft/core/tensor.h"

namespace graft {

/// Brings what a device computes to the host, batch by batch, one batch late: each is handed over when the next one has
/// been queued, so that it is copied and used while the device computes.
///
/// ```
///   host    | queue a | queue b | (a copied?) use a | queue c | (b copied?) use b | finish: (c copied?) use c
///   compute     | a             | b                     | c
///   copies                      | a -> pinned 0         | b -> pinned 1         | c -> pinned 0
/// ```
/// On the CPU there is nothing to copy: each is handed over at once, as it is.
class Downloader {
 public:
  /// Takes values in the host's memory, which are there until it returns.
  using Use = std::function<void(std::span<const Tensor> values)>;

  explicit Downloader(Device device);
  ~Downloader();
  Downloader(const Downloader&) = delete;
  Downloader& operator=(const Downloader&) = delete;

  /// Queues copies of what the Context's stream computes, which nobody may write to until `use` is called, and hands
  /// over what came before. Throws what that throws.
  void download(std::vector<Tensor> values, Use use);
  /// Hands over what came last.
  void finish();

 private:
  struct Slot {
    std::shared_ptr<std::byte> pinned;
    std::size_t bytes = 0;
    std::vector<Tensor> values, copies;  // the copies lie in the pinned memory
    Event copied;
    Use use;  // empty if nothing is to be handed over
  };
  static void hand_over(Slot& slot);

  Device device_;
  Stream copies_;
  std::array<Slot, 2> slots_;
  std::size_t next_ = 0;
};

}  // namespace graft
