#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>

namespace graft::emulated {

/// What the warps of a kernel asked of memory. Caches are not modelled: this is what leaves the registers, not what
/// reaches the memory chips.
struct Traffic {
  std::int64_t global_requests = 0;    ///< instructions of a warp
  std::int64_t read_sectors = 0;       ///< of 32 bytes of global memory, each counted once a request
  std::int64_t written_sectors = 0;    ///< the same
  std::int64_t shared_requests = 0;    ///< instructions of a warp
  std::int64_t shared_wavefronts = 0;  ///< rounds that shared memory needs for them
  std::int64_t bank_conflicts = 0;     ///< rounds more than if no two addresses met in a bank

  Traffic& operator+=(const Traffic& other);
  friend bool operator==(const Traffic&, const Traffic&) = default;
};

/// Counts from now on, or no longer, what kernels that are launched ask of memory. Needs a build and a run with checks
/// (GRAFT_EMULATED_CHECKS), which see every access.
void count_traffic(bool on);
/// What each kernel asked for since the last call, by its name.
std::map<std::string, Traffic> take_traffic();

/// Puts the accesses of a block's threads together into what its warps execute. Two threads of a warp are in the same
/// instruction if they are at the same address of code and have executed it as often since the block's last barrier:
/// what lanes do that skip an execution is then counted a round late, but counted.
///
/// A request to global memory moves the sectors of 32 bytes that it touches. Shared memory has 32 banks of 4 bytes and
/// serves 128 bytes at once: a request of 8 bytes a lane takes its half warps one after the other, one of 16 bytes its
/// quarters, and each of them as many rounds as there are different words in one bank.
class TrafficCounter {
 public:
  enum class Kind : std::uint8_t { global_read, global_write, shared };

  void note(unsigned thread, const void* instruction, const void* address, std::size_t bytes, Kind kind);
  /// Neighbouring bytes that a copy of its own reads from global memory, a row of one of TMA's boxes: a request.
  void note_copied(const void* address, std::size_t bytes);
  /// At a barrier and at the end of the block: adds what came together to the kernel's.
  void flush(const std::string& kernel);

 private:
  struct Request {
    std::array<std::uintptr_t, 32> at{};  // of each lane
    std::uint32_t lanes = 0;
    std::uint32_t bytes = 0;
    Kind kind = Kind::shared;
  };
  struct Key {
    const void* instruction;
    std::uint32_t who;  // a warp or a thread
    std::uint32_t times;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct Hash {
    std::size_t operator()(const Key& key) const;
  };

  static Traffic cost(const Request& request);

  std::unordered_map<Key, std::uint32_t, Hash> executed_;  // how often each thread was at each instruction
  std::unordered_map<Key, Request, Hash> requests_;
  Traffic copied_;
};

}  // namespace graft::emulated
