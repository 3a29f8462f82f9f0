#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <boost/context/fiber.hpp>

#include "emulated/async_copies.h"
#include "emulated/stack_pool.h"

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
};

constexpr unsigned kWarpSize = 32;

/// Where a thread waits, told by the address of a constant that each kind of waiting has.
struct Site {
  const char* what;
};

class Block;

/// One thread of a block: what threadIdx and its neighbours name.
struct Thread {
  dim3 index;
  unsigned number = 0;  ///< in its block
  Block* block = nullptr;

  enum class State : std::uint8_t { fresh, ready, running, waiting, done } state = State::fresh;
  boost::context::fiber context;   ///< where it goes on, while it waits
  const Site* waits_at = nullptr;  ///< while it waits
  unsigned mask = 0;               ///< of lanes, of the warp function it waits in
  const void* given = nullptr;     ///< its operands of that function
  void* result = nullptr;          ///< where that function puts its result
  AsyncCopies copies;              ///< into shared memory, under way
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
  dim3 index() const { return index_; }

  /// Returns when every thread of the block is here. The value is the number of threads that gave a true `vote`.
  int barrier(bool vote);

  /// A function of the lanes in `mask`: each gives its operands and gets its result. The last of them to arrive calls
  /// `compute(given, result)` with 32 pointers of each, null for lanes that take no part.
  using WarpFunction = void (*)(const void* const* given, void* const* result);
  void warp(const Site& site, unsigned mask, const void* given, void* result, WarpFunction compute);

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
  Thread* next();
  Thread* take_fresh();
  void start(Thread& first);
  void keep(boost::context::fiber fiber);
  void wait(const Site& site);
  void wake(Thread& thread);
  void report_deadlock() const;
  void check_red_zones() const;
  std::byte* carve(const void* key, const char* name, std::size_t bytes, std::size_t alignment);
  std::string describe(const Thread& thread) const;

  const Launch* launch_ = nullptr;
  dim3 index_;
  std::vector<Thread> threads_;
  std::vector<Thread*> ready_;
  std::vector<unsigned> fresh_;  // numbers of threads that have not begun, the next one last
  std::size_t done_ = 0;
  unsigned at_barrier_ = 0;
  int votes_ = 0, counted_votes_ = 0;
  std::optional<std::mt19937_64> shuffle_;
  std::exception_ptr error_;
  boost::context::fiber scheduler_;
  StackPool stacks_;
  std::vector<std::byte> arena_;
  std::vector<Array> arrays_;
  std::size_t arena_used_ = 0;
};

/// The thread that runs now.
extern constinit thread_local Thread* current_thread;
inline Thread& this_thread() { return *current_thread; }

}  // namespace graft::emulated
