#include "emulated/device.h"

#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>

#include "core/format.h"
#include "core/parallel.h"
#include "emulated/poison.h"
#include "runtime/launches.h"

namespace graft::emulated {
namespace {

struct EventState {
  bool done = false;
  void* stream = nullptr;  // the one that reaches it
  Order before;            // what it marks the end of
};

struct Command {
  std::string name = {};
  std::function<void(const Command& self)> run = {};   // null for a command that only marks or waits
  std::shared_ptr<EventState> marks = {}, waits = {};  // at most one of them
  std::uint64_t number = 0;                            // counts what the device was given
  std::uint32_t stream = 0;                            // the number of the one it was given to
  std::shared_ptr<const Order> before = {};            // what it comes after
};

struct Commands {  // of a recording
  std::vector<Command> all;
  bool whole = true;  // false once something was refused: as a GPU's capture, it cannot be used
};

std::optional<std::uint64_t> seed_from_environment() {
  const char* text = std::getenv("GRAFT_EMULATED_SEED");
  if (text == nullptr || *text == '\0') return {};
  char* end = nullptr;
  const std::uint64_t seed = std::strtoull(text, &end, 10);
  check(*end == '\0', "GRAFT_EMULATED_SEED: expected a number, got '{}'", text);
  return seed;
}

std::optional<std::uint64_t>& seed_in_use() {
  static std::optional<std::uint64_t> seed = seed_from_environment();
  return seed;
}

bool checks_from_environment() {
#if GRAFT_EMULATED_CHECKS
  const char* text = std::getenv("GRAFT_EMULATED_CHECKS");
  return text == nullptr || std::string_view(text) != "0";
#else
  return false;
#endif
}

bool checking() {
  static const bool on = checks_from_environment();
  return on;
}

// Blocks in the order of their numbers, or shuffled; each is told its own seed.
void run_blocks(const Launch& launch) {
  const std::size_t count = launch.grid.count();
  const std::optional<std::uint64_t> seed = seed_in_use();
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = i;
  if (seed) std::shuffle(order.begin(), order.end(), std::mt19937_64(*seed));
  const auto run = [&](Index i) {
    const auto number = static_cast<unsigned>(order[static_cast<std::size_t>(i)]);
    const dim3 index(number % launch.grid.x, number / launch.grid.x % launch.grid.y,
                     number / launch.grid.x / launch.grid.y);
    Block::of_this_thread().run(launch, index, seed ? std::optional(*seed + number) : std::nullopt);
  };
  if (launch.memory == nullptr) return parallel_for(static_cast<Index>(count), run);
  for (Index i = 0; i < static_cast<Index>(count); ++i) run(i);  // what is remembered of memory is one thread's
}

class EmulatedBackend final : public Backend {
 public:
  DeviceDescription describe() override {
    return {.name = "emulated",
            .architecture = "the CPU",
            .multiprocessors = threads(),
            .memory = 0,
            .shared_per_block = std::size_t{227} << 10};
  }

  CachingAllocator& memory() override { return allocator_; }

  void copy(void* to, const void* from, std::size_t bytes, Copy direction, void* stream) override {
    if (direction != Copy::on_device) refuse_while_recording(stream, "a copy between it and the device");
    if (direction == Copy::to_device) {  // the caller may change its memory as soon as we return
      auto held = std::make_shared<std::vector<std::byte>>(static_cast<const std::byte*>(from),
                                                           static_cast<const std::byte*>(from) + bytes);
      push_copy(stream, to, held->data(), bytes, held);
    } else {
      push_copy(stream, to, from, bytes);
    }
    if (direction == Copy::to_host) synchronize(stream);
  }

  std::byte* allocate_pinned(std::size_t bytes) override { return new std::byte[bytes]; }
  void free_pinned(std::byte* memory) override { delete[] memory; }
  void copy_pinned(void* to, const void* from, std::size_t bytes, Copy direction, void* stream) override {
    if (direction != Copy::on_device) refuse_while_recording(stream, "a copy between it and the device");
    push_copy(stream, to, from, bytes);
  }

  void fill(void* to, std::uint64_t pattern, std::size_t element_bytes, std::size_t count, void* stream) override {
    push(stream, {.name = "fill", .run = [=, this](const Command& self) {
                    note(self, to, element_bytes * count, true);
                    for (std::size_t i = 0; i < count; ++i)
                      std::memcpy(static_cast<std::byte*>(to) + i * element_bytes, &pattern, element_bytes);
                  }});
  }

  void* create_stream() override {
    const std::lock_guard lock(mutex_);
    // Never the same: all that a stream needs to be.
    void* stream = reinterpret_cast<void*>(++last_stream_);  // NOLINT(performance-no-int-to-ptr)
    streams_[stream];
    return stream;
  }

  void destroy_stream(void* stream) override {
    in_silence([&] { run_all(stream); });
    allocator_.release_cached(stream);
    const std::lock_guard lock(mutex_);
    streams_.erase(stream);
    given_before_.erase(stream);
  }

  void synchronize(void* stream) override {
    refuse_while_recording(stream, "a wait for the device");
    const std::lock_guard lock(mutex_);
    run_all(stream);
    tell();
  }

  void synchronize_all() override {
    const std::lock_guard lock(mutex_);
    run_all();
    tell();
  }

  void drain() noexcept override {
    in_silence([&] { run_all(); });
  }

  void* record_event(void* stream) override {
    auto state = std::make_shared<EventState>();
    state->stream = stream;
    push(stream, {.marks = state});
    return new std::shared_ptr<EventState>(state);
  }
  void destroy_event(void* event) override { delete static_cast<std::shared_ptr<EventState>*>(event); }
  void wait_event(void* stream, void* event) override {
    push(stream, {.waits = *static_cast<std::shared_ptr<EventState>*>(event)});
  }
  void synchronize_event(void* event) override {
    const std::shared_ptr<EventState> state = *static_cast<std::shared_ptr<EventState>*>(event);
    const std::lock_guard lock(mutex_);
    while (!state->done) step(state->stream);
    seen_.add(state->before);
    tell();
  }
  double milliseconds_between(void* earlier, void* later) override {
    synchronize_event(earlier);
    synchronize_event(later);
    return 0;
  }

  void begin_recording(void* stream) override {
    const std::lock_guard lock(mutex_);
    recordings_[stream] = std::make_unique<Commands>();
    begin_recorded_launches();
  }
  Recording end_recording(void* stream) override {
    const std::lock_guard lock(mutex_);
    std::string kernels = end_recorded_launches();
    auto recording = std::move(recordings_.at(stream));
    recordings_.erase(stream);
    check(recording->whole, "[graph] cannot record: the host took part");
    const std::size_t size = recording->all.size();
    return {recording.release(), size, std::move(kernels)};
  }
  void abandon_recording(void* stream) noexcept override {
    const std::lock_guard lock(mutex_);
    recordings_.erase(stream);
    end_recorded_launches();
  }
  void replay(const Recording& recording, void* stream) override {
    note_replay(recording.size, recording.kernels);
    for (const Command& command : static_cast<Commands*>(recording.handle)->all) push(stream, command);
  }
  void destroy_recording(const Recording& recording) override { delete static_cast<Commands*>(recording.handle); }

  void launch(void* stream, Launch launch) {
    launch.memory = checking() ? &memory_ : nullptr;
    launch.counted = checking() && counting_;
    const std::string name = launch.name;
    push(stream, {.name = name, .run = [launch = std::move(launch)](const Command& self) mutable {
                    launch.number = self.number;
                    launch.stream = self.stream;  // that of the replay, if it was recorded
                    launch.before = self.before.get();
                    run_blocks(launch);
                  }});
  }

  void shuffle(std::optional<std::uint64_t> seed) {
    const std::lock_guard lock(mutex_);
    seed_in_use() = seed;
    choice_.seed(seed.value_or(0));
  }

  void push(void* stream, Command command) {
    const std::lock_guard lock(mutex_);
    if (const auto recording = recordings_.find(stream); recording != recordings_.end()) {
      check(command.run != nullptr, "[graph] events cannot be recorded");
      recording->second->all.push_back(std::move(command));
      return;
    }
    command.number = given_++;
    command.stream = number_of(stream);
    if (checking()) {
      Order& before = given_before_[stream];
      before.add(seen_);
      if (command.waits != nullptr) before.add(command.waits->before);
      if (command.marks != nullptr) command.marks->before = before;
      if (command.run) command.before = std::make_shared<const Order>(before);
      before.add(command.stream, command.number);
    }
    streams_[stream].push_back(std::move(command));
  }

  void count_traffic(bool on) {
    check(!on || checking(),
          "[emulated] traffic is counted only in a build and a run with checks (GRAFT_EMULATED_CHECKS)");
    const std::lock_guard lock(mutex_);
    counting_ = on;
  }

 private:
  static std::byte* allocate(std::size_t bytes, int, const void* stream);
  static void free(std::byte* block, int, const void*);

  void refuse_while_recording(void* stream, std::string_view what) {
    const std::lock_guard lock(mutex_);
    const auto recording = recordings_.find(stream);
    if (recording == recordings_.end()) return;
    recording->second->whole = false;
    fail("[graph] the host takes part in a recording: {}", what);
  }

  // Handles are numbers.
  static std::uint32_t number_of(const void* stream) {
    return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(stream));
  }

  void push_copy(void* stream, void* to, const void* from, std::size_t bytes, std::shared_ptr<const void> held = {}) {
    push(stream, {.name = "copy", .run = [=, this, held = std::move(held)](const Command& self) {
                    note(self, from, bytes, false);
                    note(self, to, bytes, true);
                    std::memmove(to, from, bytes);
                  }});
  }

  // Takes note of what a copy or fill reads or writes, if it is the device's.
  void note(const Command& command, const void* at, std::size_t bytes, bool write) {
    if (!checking()) return;
    DeviceMemory::Allocation* tensor = memory_.find(at);
    if (tensor == nullptr) return;
    const Access access{.launch = command.number, .stream = command.stream, .write = write};
    const auto mistake =
        memory_.note(*tensor, static_cast<const std::byte*>(at) - tensor->base, bytes, access, *command.before, {});
    if (mistake) fail("[{}] {}", command.name, *mistake);
  }

  void run_all(void* stream) {
    while (!streams_[stream].empty()) step(stream);
    if (const auto given = given_before_.find(stream); given != given_before_.end()) seen_.add(given->second);
    release();
  }
  void run_all() {
    for (auto& [stream, commands] : streams_) {
      while (!commands.empty()) step(stream);
    }
    for (const auto& [stream, given] : given_before_) seen_.add(given);
    release();
  }

  // For destructors: keeps the error of what is run, until tell().
  template <class Work>
  void in_silence(const Work& work) noexcept {
    const std::lock_guard lock(mutex_);
    try {
      work();
    } catch (...) {
      if (!missed_) missed_ = std::current_exception();
    }
  }
  void tell() {
    if (missed_) std::rethrow_exception(std::exchange(missed_, nullptr));
  }

  // Memory goes back when nothing is queued that could still need it.
  void release() {
    for (const auto& [stream, commands] : streams_) {
      if (!commands.empty()) return;
    }
    memory_.release_freed();
  }

  // Runs the next command of a stream, and before it what it waits for. With a seed, another stream may come first.
  void step(void* stream) {
    if (seed_in_use() && choice_() % 2 == 0) {
      auto other = streams_.begin();
      std::advance(other, static_cast<std::ptrdiff_t>(choice_() % streams_.size()));
      if (!other->second.empty()) stream = other->first;
    }
    std::deque<Command>& commands = streams_[stream];
    if (commands.empty()) return;
    if (commands.front().waits != nullptr && !commands.front().waits->done) return step(commands.front().waits->stream);
    Command command = std::move(commands.front());
    commands.pop_front();
    if (command.marks != nullptr) command.marks->done = true;
    if (!command.run) return;
    if (checking()) memory_.name(command.number, command.name);
    try {
      command.run(command);
    } catch (...) {  // as after a fault of a GPU, nothing that was queued is run any more
      for (auto& [name, queue] : streams_) {
        for (const Command& lost : queue) {
          if (lost.marks != nullptr) lost.marks->done = true;
        }
        queue.clear();
      }
      for (const auto& [name, given] : given_before_) seen_.add(given);
      throw;
    }
  }

  std::mutex mutex_;
  bool counting_ = false;
  std::map<void*, std::deque<Command>> streams_;  // in the order in which they were made
  std::uintptr_t last_stream_ = 0;
  std::mt19937_64 choice_{seed_in_use().value_or(0)};
  DeviceMemory memory_;
  std::uint64_t given_ = 0;
  std::map<void*, Order> given_before_;  // to each stream, and what that waits for
  Order seen_;                           // by the host, which waited for it: all that is given later comes after it
  std::exception_ptr missed_;
  std::map<void*, std::unique_ptr<Commands>> recordings_;  // by the stream that is being recorded
  // Where accesses are watched, memory is of its exact size and new each time; else it is kept for reuse as a GPU's is.
  CachingAllocator allocator_{{Device::Kind::emulated, 0},
                              {.allocate = allocate, .free = free, .keep = !checking() && !kAddressSanitizer}};
};

EmulatedBackend& device() {
  static auto* instance = new EmulatedBackend;  // never destroyed, as the CPU's allocator
  return *instance;
}

std::byte* EmulatedBackend::allocate(std::size_t bytes, int, const void* stream) {
  EmulatedBackend& self = device();
  const std::lock_guard lock(self.mutex_);
  return self.memory_.allocate(bytes, number_of(stream));
}

void EmulatedBackend::free(std::byte* block, int, const void*) {
  EmulatedBackend& self = device();
  const std::lock_guard lock(self.mutex_);
  self.memory_.free(block, self.given_);
  self.release();
}

}  // namespace

Backend& backend(int index) {
  check(index == 0, "[device] there is one emulated device, number 0, not {}", index);
  return device();
}

void count_traffic(bool on) { device().count_traffic(on); }

void enqueue(void* stream, Launch launch) { device().launch(stream, std::move(launch)); }

std::optional<std::uint64_t> shuffle_seed() { return seed_in_use(); }
void set_shuffle_seed(std::optional<std::uint64_t> seed) { device().shuffle(seed); }

}  // namespace graft::emulated
