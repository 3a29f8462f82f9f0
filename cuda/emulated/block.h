#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "emulated/async_copies.h"
#include "emulated/async_products.h"
#include "emulated/fiber.h"
#include "emulated/memory.h"
#include "emulated/traffic.h"

namespace graft::emulated {

/// CUDA's three extents or coordinates.
struct dim3 {
  unsigned x = 1, y = 1, z = 1;

  constexpr dim3() = default;
  constexpr dim3(unsigned nx, unsigned ny = 1, unsigned nz = 1) : x(nx), y(ny), z(nz) {}  // NOLINT: as CUDA's
  constexpr std::size_t count() const { return std::size_t{x} * y * z; }
};

/// A kernel with its arguments, and the blocks that run it.
struct Launch {
  std::string name;
  dim3 grid, block;
  std::size_t dynamic_shared = 0;  ///< bytes
  std::function<void()> body;      ///< what one thread runs
  std::uint64_t number = 0;        ///< of the command
  std::uint32_t stream = 0;        ///< that it was given to
  const Order* before = nullptr;   ///< what it comes after, where accesses are checked
  DeviceMemory* memory = nullptr;  ///< where accesses are checked; null to run without checks
  bool counted = false;            ///< take_traffic() tells of it
};

constexpr unsigned kWarpSize = 32;

/// Where a thread waits, told by the address of a constant that each kind of waiting has.
struct Site {
  const char* what;
  bool orders_memory = false;  ///< what a lane wrote before is seen by the others after
};

class Block;

/// One thread of a block: what threadIdx and its neighbours name.
struct Thread {
  dim3 index;
  unsigned number = 0;  ///< in its block
  Block* block = nullptr;

  enum class State : std::uint8_t { fresh, ready, running, waiting, done } state = State::fresh;
  Fiber* fiber = nullptr;           ///< where it goes on, while it waits
  std::uint32_t warp_barriers = 0;  ///< that it has passed
  const Site* waits_at = nullptr;   ///< while it waits
  unsigned mask = 0;                ///< of lanes, of the warp function it waits in
  const void* given = nullptr;      ///< its operands of that function
  void* result = nullptr;           ///< where that function puts its result
  const void* waits_on = nullptr;   ///< what wakes it, while it waits in `wait_for`
  AsyncCopies copies;               ///< into shared memory, under way

  struct {
    const std::byte* begin = nullptr;
    std::size_t bytes = 0, announced = 0;  ///< of the vector, and by the compiler so far
    bool write = false;
  } vector;  ///< the last that it read or wrote by one instruction

  AsyncProducts products;  ///< of its warpgroup, under way
};

/// What runs blocks on one thread of the operating system, one block at a time. Each CUDA thread is a fiber that runs
/// until it has to wait for others: at a barrier, or in a function of its warp. A thread that never waits costs no
/// switch, for the next one begins on the same fiber.
class Block {
 public:
  /// Fibers stay on the thread that made them, so each thread of the operating system has a Block of its own.
  static Block& of_this_thread();

  /// Runs one block of a launch to its end. With a seed, threads take turns in an order that it chooses. Throws Error
  /// naming the kernel, block and threads if a barrier is not reached by all of them, if threads of a warp wait in
  /// different functions, or if shared memory was written beside its arrays.
  void run(const Launch& launch, dim3 index, std::optional<std::uint64_t> seed);

  const Launch& launch() const { return *launch_; }
  bool checked() const { return launch_->memory != nullptr; }
  /// Takes note of an access by the thread that runs, and stops the block if it is a mistake: outside of every array or
  /// tensor, of shared memory that nobody wrote, of a tensor that is gone, or in a race. Where traffic is counted,
  /// `instruction` tells from where in the code; null for what is no instruction of its own.
  void note(const void* address, std::size_t bytes, bool write, bool atomic, const void* instruction);
  bool counted() const { return launch_->counted; }
  /// Counts the access to a vector that the thread is about to make by one instruction, of which the compiler may
  /// announce the elements one by one.
  void count_vector(const void* address, std::size_t bytes, bool write);
  /// Counts neighbouring bytes of global memory that a unit of its own reads, no thread.
  void count_copied(const void* address, std::size_t bytes) { traffic_.note_copied(address, bytes); }
  dim3 index() const { return index_; }

  /// Stops the block because of an access to `bytes` bytes that begins at no multiple of them.
  [[noreturn]] void stop_misaligned(const void* address, std::size_t bytes);

  /// Returns when every thread of the block is here. The value is the number of threads that gave a true `vote`.
  int barrier(bool vote);

  /// A function of the lanes in `mask`: each gives its operands and gets its result. The last of them to arrive calls
  /// `compute(given, result)` with 32 pointers of each, null for lanes that take no part.
  using WarpFunction = void (*)(const void* const* given, void* const* result);
  void warp(const Site& site, unsigned mask, const void* given, void* result, WarpFunction compute);

  /// Waits until somebody calls `wake_waiting(object)`. Work that was left for this moment is done first: then it may
  /// be that there is nothing to wait for, and it returns at once.
  void wait_for(const void* object, const Site& site);
  void wake_waiting(const void* object);
  /// Leaves work for the moment when a thread waits for the object: for what a GPU does at any time until then.
  void leave_until_awaited(const void* object, std::function<void()> work);

  /// The array that a call site names: made by the first thread that comes, found by the others. `key` tells call
  /// sites apart.
  std::byte* shared(const void* key, const char* name, std::size_t bytes, std::size_t alignment);
  std::byte* dynamic_shared();

  [[noreturn]] void fail(const std::string& what) const;

 private:
  struct Array {
    const void* key;
    const char* name;
    std::size_t offset, bytes;
  };

  void begin(const Launch& launch, dim3 index);
  void count(const void* address, std::size_t bytes, bool write, const void* instruction);
  bool in_arena(const void* address) const;
  bool part_of_vector(const void* address, std::size_t bytes, bool write);
  void note_shared(std::size_t offset, std::size_t bytes, const Access& access);
  void note_global(DeviceMemory::Allocation& tensor, std::ptrdiff_t offset, std::size_t bytes, const Access& access);
  [[noreturn]] void stop(const std::string& what);
  std::string race(const Access& before, const Access& now) const;
  Thread* next();
  Thread* take_fresh();
  void start(Thread& first);
  void run_threads(Thread& first);
  Fiber& idle_fiber();
  void abandon();
  void wait(const Site& site);
  void wake(Thread& thread);
  void report_deadlock() const;
  void check_red_zones() const;
  std::byte* carve(const void* key, const char* name, std::size_t bytes, std::size_t alignment);
  std::string describe(const Thread& thread) const;

  const Launch* launch_ = nullptr;
  dim3 index_;
  std::uint32_t number_ = 0;  // in its grid
  std::vector<Thread> threads_;
  std::vector<Thread*> ready_;
  std::vector<unsigned> fresh_;  // numbers of threads that have not begun, the next one last
  std::size_t done_ = 0;
  unsigned at_barrier_ = 0;
  int votes_ = 0, counted_votes_ = 0;
  std::vector<std::pair<const void*, std::function<void()>>> left_;  // until somebody waits for the object
  std::optional<std::mt19937_64> shuffle_;
  std::exception_ptr error_;
  Fiber* running_ = nullptr;
  std::vector<Fiber*> idle_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<std::byte> arena_;
  std::vector<Array> arrays_;
  std::size_t arena_used_ = 0;
  std::vector<bool> written_;  // of the arena
  Shadow shared_shadow_;
  std::uint32_t barriers_ = 0;
  TrafficCounter traffic_;
};

/// The thread that runs now.
extern constinit thread_local Thread* current_thread;
inline Thread& this_thread() { return *current_thread; }

}  // namespace graft::emulated
