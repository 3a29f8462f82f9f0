#include "emulated/block.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

#include "core/format.h"
#include "emulated/poison.h"

namespace graft::emulated {
namespace {

constexpr std::size_t kRedZone = 64;                    // bytes between shared arrays
constexpr std::byte kRed{0xCB};                         // what stands there
constexpr std::byte kUnwritten{0xFF};                   // shared memory begins as NaN in every floating type
constexpr std::size_t kArena = std::size_t{256} << 10;  // 227 KiB is the most that a block of sm_90 can have

constexpr Site kBarrier{"__syncthreads()"};

std::string text(dim3 at) { return fmt::format("({},{},{})", at.x, at.y, at.z); }

dim3 coordinates(std::size_t number, dim3 extent) {
  const auto n = static_cast<unsigned>(number);
  return {n % extent.x, n / extent.x % extent.y, n / extent.x / extent.y};
}

}  // namespace

constinit thread_local Thread* current_thread = nullptr;

Block& Block::of_this_thread() {
  thread_local Block block;
  return block;
}

void Block::begin(const Launch& launch, dim3 index) {
  launch_ = &launch;
  index_ = index;
  number_ = static_cast<std::uint32_t>(index.x +
                                       std::size_t{launch.grid.x} * (index.y + std::size_t{launch.grid.y} * index.z));
  const std::size_t count = launch.block.count();
  threads_ = std::vector<Thread>(count);
  fresh_.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    threads_[i].index = coordinates(i, launch.block);
    threads_[i].number = static_cast<unsigned>(i);
    threads_[i].block = this;
    fresh_[i] = static_cast<unsigned>(count - 1 - i);
  }
  if (shuffle_) std::shuffle(fresh_.begin(), fresh_.end(), *shuffle_);
  ready_.clear();
  left_.clear();
  done_ = at_barrier_ = 0;
  votes_ = 0;
  error_ = nullptr;
  if (arena_.empty()) {
    arena_.assign(kArena, kUnwritten);
    written_.assign(kArena, false);
  }
  unpoison(arena_.data(), arena_.size());
  const auto touched = static_cast<std::ptrdiff_t>(std::min(arena_used_ + kRedZone, arena_.size()));
  std::fill_n(arena_.begin(), touched, kUnwritten);  // by the block before
  std::fill_n(written_.begin(), touched, false);
  arrays_.clear();
  arena_used_ = 0;
  barriers_ = 0;
  shared_shadow_.clear();
  if (launch.dynamic_shared > 0) carve(this, "dynamic shared memory", launch.dynamic_shared, 128);
}

void Block::run(const Launch& launch, dim3 index, std::optional<std::uint64_t> seed) {
  shuffle_.reset();
  if (seed) shuffle_.emplace(*seed);
  begin(launch, index);
  while (done_ < threads_.size() && error_ == nullptr) {
    if (Thread* thread = next(); thread != nullptr) {
      current_thread = thread;
      thread->state = Thread::State::running;
      if (thread->fiber != nullptr) {
        running_ = std::exchange(thread->fiber, nullptr);
        running_->enter();
      } else {
        start(*thread);
      }
      if (!running_->busy()) idle_.push_back(running_);
    } else {
      try {
        report_deadlock();
      } catch (...) {
        error_ = std::current_exception();
      }
    }
  }
  current_thread = nullptr;
  if (error_ != nullptr) {
    abandon();
    std::rethrow_exception(error_);
  }
  if (counted()) traffic_.flush(launch.name);
  check_red_zones();
}

// Fibers that wait when a mistake is found stay as they are for good: nothing can be thrown through the compiler's
// calls in them.
void Block::abandon() {
  static auto* const abandoned = new std::vector<std::unique_ptr<Fiber>>;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  for (std::unique_ptr<Fiber>& fiber : fibers_) {
    if (fiber->busy()) abandoned->push_back(std::move(fiber));
  }
  std::erase(fibers_, nullptr);
}

// Whom to run next: a thread that was woken, before one that has not begun.
Thread* Block::next() {
  if (!ready_.empty() && (!shuffle_ || fresh_.empty() || (*shuffle_)() % 2 == 0)) {
    const std::size_t at = shuffle_ ? (*shuffle_)() % ready_.size() : ready_.size() - 1;
    Thread* thread = ready_[at];
    ready_[at] = ready_.back();
    ready_.pop_back();
    return thread;
  }
  return take_fresh();
}

Thread* Block::take_fresh() {
  if (fresh_.empty()) return nullptr;
  Thread* thread = &threads_[fresh_.back()];
  fresh_.pop_back();
  return thread;
}

Fiber& Block::idle_fiber() {
  if (idle_.empty()) return *fibers_.emplace_back(std::make_unique<Fiber>());
  Fiber* fiber = idle_.back();
  idle_.pop_back();
  return *fiber;
}

void Block::start(Thread& first) {
  running_ = &idle_fiber();
  running_->run([this, &first] { run_threads(first); });
}

// Runs a thread, and after it those that have not begun, until one has to wait.
void Block::run_threads(Thread& first) {
  for (Thread* thread = &first; thread != nullptr;) {
    current_thread = thread;
    thread->state = Thread::State::running;
    try {
      launch_->body();
    } catch (...) {
      error_ = std::current_exception();
      return;
    }
    thread->state = Thread::State::done;
    ++done_;
    thread = shuffle_ || !ready_.empty() ? nullptr : take_fresh();
  }
}

void Block::wait(const Site& site) {
  Thread& thread = this_thread();
  thread.state = Thread::State::waiting;
  thread.waits_at = &site;
  thread.fiber = running_;
  running_->leave();
  thread.waits_at = nullptr;
}

void Block::wake(Thread& thread) {
  thread.state = Thread::State::ready;
  ready_.push_back(&thread);
}

int Block::barrier(bool vote) {
  votes_ += vote ? 1 : 0;
  if (++at_barrier_ < threads_.size()) {
    wait(kBarrier);
  } else {
    counted_votes_ = votes_;
    votes_ = 0;
    at_barrier_ = 0;
    ++barriers_;
    if (counted()) traffic_.flush(launch_->name);
    for (auto thread = threads_.rbegin(); thread != threads_.rend(); ++thread) {
      if (thread->state == Thread::State::waiting) wake(*thread);
    }
  }
  return counted_votes_;
}

void Block::warp(const Site& site, unsigned mask, const void* given, void* result, WarpFunction compute) {
  Thread& self = this_thread();
  const unsigned first = self.number / kWarpSize * kWarpSize;
  if ((mask >> (self.number - first) & 1u) == 0)
    fail(fmt::format("thread {} calls {} with a mask 0x{:08x} that leaves it out", text(self.index), site.what, mask));
  self.given = given;
  self.result = result;
  self.mask = mask;
  const void* inputs[kWarpSize] = {};
  void* results[kWarpSize] = {};
  bool complete = true;
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((mask >> lane & 1u) == 0) continue;
    if (first + lane >= threads_.size())
      fail(fmt::format("{} asks for lane {}, which the block of {} threads does not have", site.what, lane,
                       threads_.size()));
    const Thread& other = threads_[first + lane];
    if (&other != &self && (other.state != Thread::State::waiting || other.waits_at != &site)) {
      complete = false;
      break;
    }
    if (other.mask != mask)
      fail(fmt::format("{} is called with mask 0x{:08x} by thread {} and with 0x{:08x} by thread {}", site.what, mask,
                       text(self.index), other.mask, text(other.index)));
    inputs[lane] = other.given;
    results[lane] = other.result;
  }
  if (!complete) return wait(site);
  compute(inputs, results);
  for (unsigned lane = 0; site.orders_memory && lane < kWarpSize; ++lane) {
    if ((mask >> lane & 1u) != 0) ++threads_[first + lane].warp_barriers;
  }
  for (unsigned lane = kWarpSize; lane-- > 0;) {
    if ((mask >> lane & 1u) != 0 && first + lane != self.number) wake(threads_[first + lane]);
  }
}

void Block::wait_for(const void* object, const Site& site) {
  std::vector<std::function<void()>> now;
  std::erase_if(left_, [&](auto& left) {
    if (left.first != object) return false;
    now.push_back(std::move(left.second));
    return true;
  });
  for (const auto& work : now) work();
  if (!now.empty()) return;
  this_thread().waits_on = object;
  wait(site);
  this_thread().waits_on = nullptr;
}

void Block::wake_waiting(const void* object) {
  for (auto thread = threads_.rbegin(); thread != threads_.rend(); ++thread) {
    if (thread->state == Thread::State::waiting && thread->waits_on == object) wake(*thread);
  }
}

void Block::leave_until_awaited(const void* object, std::function<void()> work) {
  const bool awaited = std::any_of(threads_.begin(), threads_.end(), [&](const Thread& thread) {
    return thread.state == Thread::State::waiting && thread.waits_on == object;
  });
  if (awaited) return work();
  left_.emplace_back(object, std::move(work));
}

std::byte* Block::carve(const void* key, const char* name, std::size_t bytes, std::size_t alignment) {
  const auto round_up = [](std::size_t n, std::size_t to) { return (n + to - 1) / to * to; };
  const std::size_t offset = round_up(arena_used_ + kRedZone, std::max<std::size_t>(alignment, 16));
  const std::size_t end = offset + bytes;
  if (end + kRedZone > arena_.size())
    fail(fmt::format("shared array '{}' of {} bytes does not fit into the {} KiB of a block", name, bytes,
                     arena_.size() >> 10));
  unpoison(arena_.data() + arena_used_, offset - arena_used_);  // the zone behind the array before
  std::fill(arena_.begin() + static_cast<std::ptrdiff_t>(arena_used_),
            arena_.begin() + static_cast<std::ptrdiff_t>(offset), kRed);
  std::fill_n(arena_.begin() + static_cast<std::ptrdiff_t>(end), kRedZone, kRed);
  poison(arena_.data() + arena_used_, offset - arena_used_);
  poison(arena_.data() + end, kRedZone);
  arena_used_ = end;
  arrays_.push_back({key, name, offset, bytes});
  return arena_.data() + offset;
}

std::byte* Block::shared(const void* key, const char* name, std::size_t bytes, std::size_t alignment) {
  for (const Array& array : arrays_) {
    if (array.key == key && array.bytes == bytes) return arena_.data() + array.offset;
  }
  return carve(key, name, bytes, alignment);
}

std::byte* Block::dynamic_shared() {
  if (launch_->dynamic_shared == 0) fail("dynamic shared memory is used, but the launch gave none");
  return arena_.data() + arrays_.front().offset;
}

// Stops the thread that runs, and with it the block.
void Block::stop(const std::string& what) {
  error_ = std::make_exception_ptr(
      Error(fmt::format("[{}] block {}, thread {}: {}", launch_->name, text(index_), text(this_thread().index), what)));
  static constexpr Site kStopped{"nothing: it was stopped"};
  for (;;) wait(kStopped);
}

void Block::stop_misaligned(const void* address, std::size_t bytes) {
  stop(fmt::format("reads or writes {} bytes at once at address {}, which is no multiple of {}", bytes,
                   fmt::ptr(address), bytes));
}

bool Block::in_arena(const void* address) const {
  const auto* at = static_cast<const std::byte*>(address);
  return at >= arena_.data() && at < arena_.data() + arena_.size();
}

void Block::note(const void* address, std::size_t bytes, bool write, bool atomic, const void* instruction) {
  const Thread& self = this_thread();
  const Access access{.launch = launch_->number,
                      .stream = launch_->stream,
                      .block = number_,
                      .thread = self.number,
                      .barriers = barriers_,
                      .warp_barriers = self.warp_barriers,
                      .write = write,
                      .atomic = atomic};
  const auto* at = static_cast<const std::byte*>(address);
  if (counted() && instruction != nullptr && !part_of_vector(address, bytes, write))
    count(address, bytes, write, instruction);
  if (in_arena(at))
    note_shared(static_cast<std::size_t>(at - arena_.data()), bytes, access);
  else if (DeviceMemory::Allocation* tensor = launch_->memory->find(address); tensor != nullptr)
    note_global(*tensor, at - tensor->base, bytes, access);
}

void Block::count(const void* address, std::size_t bytes, bool write, const void* instruction) {
  using Kind = TrafficCounter::Kind;
  Kind kind = write ? Kind::global_write : Kind::global_read;
  if (in_arena(address))
    kind = Kind::shared;
  else if (launch_->memory->find(address) == nullptr)
    return;
  traffic_.note(this_thread().number, instruction, address, bytes, kind);
}

void Block::count_vector(const void* address, std::size_t bytes, bool write) {
  this_thread().vector = {static_cast<const std::byte*>(address), bytes, 0, write};
  count(address, bytes, write, __builtin_return_address(0));
}

// Whether an access is one to an element of the thread's last vector, which was counted as a whole.
bool Block::part_of_vector(const void* address, std::size_t bytes, bool write) {
  auto& vector = this_thread().vector;
  const auto* at = static_cast<const std::byte*>(address);
  if (at < vector.begin || at + bytes > vector.begin + vector.bytes || write != vector.write) return false;
  if (vector.announced + bytes > vector.bytes) return false;
  vector.announced += bytes;
  return true;
}

void Block::note_shared(std::size_t offset, std::size_t bytes, const Access& access) {
  const char* verb = access.write ? "writes" : "reads";
  const Array* array = nullptr;  // the one before the address
  for (const Array& one : arrays_) {
    if (one.offset <= offset) array = &one;
  }
  if (array == nullptr || offset + bytes > array->offset + array->bytes)
    stop(fmt::format("{} shared memory outside its arrays{}", verb,
                     array == nullptr ? std::string()
                                      : fmt::format(", at byte {} of '{}', which has {}", offset - array->offset,
                                                    array->name, array->bytes)));
  for (std::size_t i = offset; i < offset + bytes; ++i) {
    if (!access.write && !written_[i])
      stop(fmt::format("reads byte {} of shared '{}', which nobody has written", i - array->offset, array->name));
    if (access.write) written_[i] = true;
  }
  if (const auto before = shared_shadow_.note(offset, bytes, access, *launch_->before))
    stop(
        fmt::format("{} byte {} of shared '{}', {}", verb, offset - array->offset, array->name, race(*before, access)));
}

void Block::note_global(DeviceMemory::Allocation& tensor, std::ptrdiff_t offset, std::size_t bytes,
                        const Access& access) {
  const auto mistake = launch_->memory->note(tensor, offset, bytes, access, *launch_->before,
                                             [&](const Access& earlier) { return race(earlier, access); });
  if (mistake) stop(*mistake);
}

std::string Block::race(const Access& before, const Access& now) const {
  const char* verb = before.write ? "written" : "read";
  if (before.block != now.block)
    return fmt::format("which was {} by block {}: blocks of one launch are in no order", verb,
                       text(coordinates(before.block, launch_->grid)));
  return fmt::format("which was {} by thread {} with no barrier since", verb,
                     text(coordinates(before.thread, launch_->block)));
}

void Block::check_red_zones() const {
  std::size_t from = 0;
  unpoison(arena_.data(), arena_.size());
  for (std::size_t i = 0; i <= arrays_.size(); ++i) {
    const std::size_t to = i < arrays_.size() ? arrays_[i].offset : (arrays_.empty() ? 0 : from + kRedZone);
    const auto begin = arena_.begin() + static_cast<std::ptrdiff_t>(from);
    const auto end = arena_.begin() + static_cast<std::ptrdiff_t>(to);
    if (std::any_of(begin, end, [](std::byte b) { return b != kRed; }))
      fail(fmt::format("shared memory was written outside its arrays, {} '{}'", i > 0 ? "behind" : "before",
                       arrays_[i > 0 ? i - 1 : 0].name));
    if (i < arrays_.size()) from = arrays_[i].offset + arrays_[i].bytes;
  }
}

std::string Block::describe(const Thread& thread) const {
  if (thread.state == Thread::State::done) return fmt::format("thread {} has ended", text(thread.index));
  return fmt::format("thread {} waits in {}", text(thread.index), thread.waits_at->what);
}

void Block::report_deadlock() const {
  const Thread* one = nullptr;  // a pair of threads that wait for each other in vain
  const Thread* other = nullptr;
  for (const Thread& thread : threads_) {
    if (thread.state == Thread::State::waiting && one == nullptr) one = &thread;
  }
  for (const Thread& thread : threads_) {
    if (other == nullptr && (thread.state == Thread::State::done || thread.waits_at != one->waits_at)) other = &thread;
  }
  if (at_barrier_ > 0)
    fail(fmt::format("{} of {} threads are at a barrier that the others never reach: {}, {}", at_barrier_,
                     threads_.size(), describe(*one),
                     other != nullptr ? describe(*other) : "and no other thread runs"));
  if (one->waits_on != nullptr)
    fail(fmt::format("threads wait for what nobody will do: {}, {}", describe(*one),
                     other != nullptr ? describe(*other) : "and no other thread runs"));
  fail(fmt::format("threads of a warp wait for lanes that never come: {}, {}", describe(*one),
                   other != nullptr ? describe(*other) : "with masks that disagree"));
}

void Block::fail(const std::string& what) const {
  throw Error(fmt::format("[{}] block {}: {}", launch_->name, text(index_), what));
}

}  // namespace graft::emulated
