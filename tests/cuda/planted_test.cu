// One mistake of each kind that a GPU would hide, and that the emulated device must find.

#include <functional>
#include <numeric>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graft/core/error.h"
#include "graft/core/graph.h"
#include "graft/core/tensor.h"

#include "core/downloader.h"
#include "core/uploader.h"
#include "device/numeric.h"
#include "device/reduce.h"
#include "runtime/launch.h"
#include "support/expect.h"

namespace graft::emulated {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr Device kEmulated{Device::Kind::emulated, 0};
constexpr int kThreads = 64;

// The compiler can announce accesses to one sanitizer alone.
#define GRAFT_NEEDS_CHECKS() \
  if (!GRAFT_EMULATED_CHECKS) GTEST_SKIP() << "built with another sanitizer (GRAFT_SANITIZE)"

// For mistakes that the address sanitizer knows too. It ends the process, with a report that names them.
#if defined(__SANITIZE_ADDRESS__)
#define GRAFT_EXPECT_FOUND(error, matcher, report)             \
  do {                                                         \
    testing::FLAGS_gtest_death_test_style = "threadsafe";      \
    EXPECT_DEATH(static_cast<void>(error), HasSubstr(report)); \
  } while (false)
#else
#define GRAFT_EXPECT_FOUND(error, matcher, report) \
  GRAFT_NEEDS_CHECKS();                            \
  EXPECT_THAT(error, matcher)
#endif

// Runs a kernel and returns the sentence of the error, empty if there was none.
template <class... Parameters, class... Arguments>
std::string error_of(LaunchShape shape, void (*kernel)(Parameters...), const Arguments&... arguments) {
  ContextScope scope;
  scope->device = kEmulated;
  try {
    launch(Context::current(), "planted", shape, kernel, arguments...);
    synchronize(kEmulated);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

Tensor floats(Index count) { return Tensor::zeros({count}, DType::f32, kEmulated); }

__global__ void reverse_kernel(float* y, bool with_barrier) {
  GRAFT_SHARED(float, tile, kThreads);
  const unsigned i = threadIdx.x;
  tile[i] = static_cast<float>(i);
  if (with_barrier) __syncthreads();
  y[i] = tile[kThreads - 1 - i];
}

TEST(Emulated, RunsWhatIsRight) {
  const Tensor y = floats(kThreads);
  EXPECT_EQ(error_of({dim3(1), dim3(kThreads)}, reverse_kernel, static_cast<float*>(y.raw()), true), "");
  EXPECT_EQ(y.to(Device{}).data<float>()[0], kThreads - 1);
}

// Thread 63 reads what thread 0 writes. Threads run one after the other here, so that thread 63's element is unwritten
// when thread 0 reads it.
TEST(Emulated, FindsAMissingBarrier) {
  GRAFT_NEEDS_CHECKS();
  const Tensor y = floats(kThreads);
  EXPECT_THAT(error_of({dim3(1), dim3(kThreads)}, reverse_kernel, static_cast<float*>(y.raw()), false),
              AllOf(HasSubstr("planted"), HasSubstr("'tile'"), HasSubstr("nobody has written")));
}

__global__ void rotate_kernel(float* y, bool with_barrier) {
  GRAFT_SHARED(float, tile, kThreads);
  const unsigned i = threadIdx.x;
  tile[i] = static_cast<float>(i);
  __syncthreads();
  const float next = tile[(i + 1) % kThreads];
  if (with_barrier) __syncthreads();
  tile[i] = next + 1;
  __syncthreads();
  y[i] = tile[i];
}

TEST(Emulated, FindsARaceOfTwoThreads) {
  GRAFT_NEEDS_CHECKS();
  const Tensor y = floats(kThreads);
  EXPECT_EQ(error_of({dim3(1), dim3(kThreads)}, rotate_kernel, static_cast<float*>(y.raw()), true), "");
  EXPECT_THAT(error_of({dim3(1), dim3(kThreads)}, rotate_kernel, static_cast<float*>(y.raw()), false),
              AllOf(HasSubstr("'tile'"), HasSubstr("with no barrier since")));
}

__global__ void warp_rotate_kernel(float* y, bool with_barrier) {
  GRAFT_SHARED(float, tile, kLanes);
  const unsigned i = threadIdx.x;
  tile[i] = static_cast<float>(i);
  __syncwarp();
  const float next = tile[(i + 1) % kLanes];
  if (with_barrier) __syncwarp();
  tile[i] = next;
  y[i] = tile[i];
}

TEST(Emulated, FindsAMissingBarrierOfAWarp) {
  GRAFT_NEEDS_CHECKS();
  const Tensor y = floats(kLanes);
  EXPECT_EQ(error_of({dim3(1), dim3(kLanes)}, warp_rotate_kernel, static_cast<float*>(y.raw()), true), "");
  EXPECT_THAT(error_of({dim3(1), dim3(kLanes)}, warp_rotate_kernel, static_cast<float*>(y.raw()), false),
              HasSubstr("with no barrier since"));
}

__global__ void count_kernel(int* sum, bool atomic) {
  if (atomic)
    atomicAdd(sum, 1);
  else
    *sum += 1;
}

TEST(Emulated, FindsARaceOfTwoBlocks) {
  GRAFT_NEEDS_CHECKS();
  const Tensor sum = Tensor::zeros({1}, DType::i32, kEmulated);
  EXPECT_EQ(error_of({dim3(4), dim3(1)}, count_kernel, static_cast<int*>(sum.raw()), true), "");
  EXPECT_EQ(sum.item(), 4);
  EXPECT_THAT(error_of({dim3(4), dim3(1)}, count_kernel, static_cast<int*>(sum.raw()), false),
              HasSubstr("blocks of one launch are in no order"));
}

__global__ void same_place_kernel(float* y) { y[threadIdx.x / 2] = 1; }

TEST(Emulated, FindsTwoThreadsThatWriteTheSameElement) {
  GRAFT_NEEDS_CHECKS();
  const Tensor y = floats(kThreads);
  EXPECT_THAT(error_of({dim3(1), dim3(kThreads)}, same_place_kernel, static_cast<float*>(y.raw())),
              AllOf(HasSubstr("of a tensor, which was written by thread"), HasSubstr("with no barrier since")));
}

__global__ void early_return_kernel(float* y, unsigned count) {
  if (threadIdx.x >= count) return;
  __syncthreads();
  y[threadIdx.x] = 1;
}

TEST(Emulated, FindsABarrierThatNotAllReach) {
  const Tensor y = floats(kThreads);
  EXPECT_THAT(error_of({dim3(1), dim3(kThreads)}, early_return_kernel, static_cast<float*>(y.raw()), 60u),
              AllOf(HasSubstr("60 of 64 threads are at a barrier"), HasSubstr("thread (60,0,0) has ended")));
}

__global__ void half_warp_kernel(float* y) {
  float value = static_cast<float>(threadIdx.x);
  if (threadIdx.x < 16) value = __shfl_xor_sync(kAllLanes, value, 1);
  y[threadIdx.x] = value;
}

TEST(Emulated, FindsAShuffleThatNotAllLanesReach) {
  const Tensor y = floats(kLanes);
  EXPECT_THAT(error_of({dim3(1), dim3(kLanes)}, half_warp_kernel, static_cast<float*>(y.raw())),
              HasSubstr("wait for lanes that never come"));
}

__global__ void beyond_kernel(const float* x, float* y, int count) {
  for (int i = static_cast<int>(threadIdx.x); i <= count; i += kThreads) y[i % count] = x[i];
}

TEST(Emulated, FindsAReadBeyondATensor) {
  const Tensor x = floats(100), y = floats(100);
  GRAFT_EXPECT_FOUND(error_of({dim3(1), dim3(kThreads)}, beyond_kernel, static_cast<const float*>(x.raw()),
                              static_cast<float*>(y.raw()), 100),
                     HasSubstr("reads 4 bytes at byte 400 of a tensor that has 400"), "use-after-poison");
}

__global__ void before_kernel(float* y) { y[static_cast<int>(threadIdx.x) - 1] = 1; }

TEST(Emulated, FindsAWriteBeforeATensor) {
  const Tensor y = floats(kThreads);
  GRAFT_EXPECT_FOUND(error_of({dim3(1), dim3(kThreads)}, before_kernel, static_cast<float*>(y.raw())),
                     HasSubstr("block (0,0,0), thread (0,0,0): writes 4 bytes at byte -4 of a tensor that has 256"),
                     "use-after-poison");
}

__global__ void beyond_shared_kernel(float* y) {
  GRAFT_SHARED(float, tile, kThreads);
  tile[threadIdx.x + 1] = 1;
  __syncthreads();
  y[threadIdx.x] = 1;
}

TEST(Emulated, FindsAWriteBeyondASharedArray) {
  const Tensor y = floats(kThreads);
  GRAFT_EXPECT_FOUND(error_of({dim3(1), dim3(kThreads)}, beyond_shared_kernel, static_cast<float*>(y.raw())),
                     HasSubstr("writes shared memory outside its arrays, at byte 256 of 'tile', which has 256"),
                     "use-after-poison");
}

__global__ void beyond_dynamic_kernel(float* y, unsigned from) {
  float* tile = dynamic_shared<float>();
  tile[threadIdx.x] = 1;
  __syncthreads();
  y[threadIdx.x] = tile[threadIdx.x + from];
}

TEST(Emulated, FindsAReadBeyondDynamicSharedMemory) {
  const Tensor y = floats(kThreads);
  const LaunchShape shape{dim3(1), dim3(kThreads), kThreads * sizeof(float)};
  EXPECT_EQ(error_of(shape, beyond_dynamic_kernel, static_cast<float*>(y.raw()), 0u), "");
  GRAFT_EXPECT_FOUND(
      error_of(shape, beyond_dynamic_kernel, static_cast<float*>(y.raw()), 1u),
      HasSubstr("reads shared memory outside its arrays, at byte 256 of 'dynamic shared memory', which has 256"),
      "use-after-poison");
}

__global__ void leftover_kernel(float* y) {
  GRAFT_SHARED(float, tile, kThreads);
  if (blockIdx.x == 0) tile[threadIdx.x] = 1;
  __syncthreads();
  y[blockIdx.x * kThreads + threadIdx.x] = tile[threadIdx.x];
}

// On a GPU the second block often finds there what the first one left.
TEST(Emulated, FindsAReadOfSharedMemoryThatOnlyAnotherBlockWrote) {
  GRAFT_NEEDS_CHECKS();
  const Tensor y = floats(2 * kThreads);
  EXPECT_EQ(error_of({dim3(1), dim3(kThreads)}, leftover_kernel, static_cast<float*>(y.raw())), "");
  EXPECT_THAT(error_of({dim3(2), dim3(kThreads)}, leftover_kernel, static_cast<float*>(y.raw())),
              AllOf(HasSubstr("block (1,0,0)"), HasSubstr("of shared 'tile', which nobody has written")));
}

__global__ void misaligned_kernel(const float* x, float* y) { store(y, load<4>(x + 1)); }

TEST(Emulated, FindsAMisalignedVector) {
  const Tensor x = floats(8), y = floats(4);
  EXPECT_THAT(
      error_of({dim3(1), dim3(1)}, misaligned_kernel, static_cast<const float*>(x.raw()), static_cast<float*>(y.raw())),
      HasSubstr("reads or writes 16 bytes at once"));
}

__global__ void add_one_kernel(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x] + 1; }

// y = x + 1 in one stream, z = y + 1 in another, which waits for the first or does not.
class TwoStreams : public ::testing::Test {
 protected:
  TwoStreams() { set_shuffle_seed({}); }  // the first stream's work comes first
  ~TwoStreams() override { set_shuffle_seed(before_); }

  void add(const Stream& stream, const char* name, const Tensor& from, const Tensor& to) {
    launch(stream.handle(), name, {dim3(1), dim3(1)}, add_one_kernel, static_cast<const float*>(from.raw()),
           static_cast<float*>(to.raw()));
  }
  static std::string error_of(const std::function<void()>& work) {
    try {
      work();
      synchronize(kEmulated);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  const Tensor x = floats(1), y = floats(1), z = floats(1);
  const Stream first = (synchronize(kEmulated), Stream::create(kEmulated)), second = Stream::create(kEmulated);

 private:
  std::optional<std::uint64_t> before_ = shuffle_seed();
};

TEST_F(TwoStreams, MayWaitForEachOtherByAnEvent) {
  add(first, "first", x, y);
  second.wait(Event::record(kEmulated, first));
  add(second, "second", y, z);
  first.wait(Event::record(kEmulated, second));  // before it writes what the second one reads
  add(first, "third", x, y);
  synchronize(kEmulated);
  EXPECT_EQ(z.item(), 2);
}

TEST_F(TwoStreams, MayMeetOnTheHost) {
  add(first, "first", x, y);
  first.synchronize(kEmulated);
  add(second, "second", y, z);
  Event::record(kEmulated, second).synchronize();
  add(first, "third", x, y);
  synchronize(kEmulated);
  EXPECT_EQ(z.item(), 2);
}

TEST_F(TwoStreams, FindsAReadThatDoesNotWait) {
  GRAFT_NEEDS_CHECKS();
  EXPECT_THAT(error_of([&] {
                add(first, "first", x, y);
                add(second, "second", y, z);
              }),
              AllOf(HasSubstr("[second] block (0,0,0), thread (0,0,0): reads byte 0 of a tensor, which 'first' wrote"),
                    HasSubstr("in another stream, and this stream does not wait for it")));
}

TEST_F(TwoStreams, FindsAWriteOfWhatAnotherStillReads) {
  GRAFT_NEEDS_CHECKS();
  EXPECT_THAT(error_of([&] {
                add(first, "first", y, z);
                add(second, "second", x, y);
              }),
              HasSubstr("[second] block (0,0,0), thread (0,0,0): writes byte 0 of a tensor, which 'first' read"));
}

TEST_F(TwoStreams, FindsAWriteThatIsNotWaitedFor) {
  GRAFT_NEEDS_CHECKS();
  add(first, "first", x, y);
  second.wait(Event::record(kEmulated, first));
  add(first, "later", x, y);  // the event marks what came before
  EXPECT_THAT(error_of([&] { add(second, "second", y, z); }),
              AllOf(HasSubstr("which 'later' wrote in another stream"), HasSubstr("[second]")));
}

TEST_F(TwoStreams, FindsACopyThatDoesNotWait) {
  GRAFT_NEEDS_CHECKS();
  add(first, "first", x, y);
  first.synchronize(kEmulated);
  EXPECT_EQ(error_of([&] { y.item(); }), "");
  add(first, "later", x, y);
  EXPECT_THAT(error_of([&] { y.item(); }), HasSubstr("[later] block (0,0,0), thread (0,0,0): writes byte 0 of a "
                                                     "tensor, which 'copy' read in another stream"));
}

TEST_F(TwoStreams, FindsAFillThatDoesNotWait) {
  GRAFT_NEEDS_CHECKS();
  EXPECT_THAT(error_of([&] {
                add(first, "first", x, y);
                ContextScope scope;
                scope->stream = second;
                Tensor(y).fill(3);
              }),
              HasSubstr("[fill] writes byte 0 of a tensor, which 'first' wrote in another stream"));
}

TEST_F(TwoStreams, AFaultIsNoReasonForAnother) {
  GRAFT_NEEDS_CHECKS();
  const std::string fault = error_of([&] {
    add(first, "first", x, y);
    launch(first.handle(), "planted", {dim3(1), dim3(kThreads)}, early_return_kernel, static_cast<float*>(z.raw()),
           60u);
  });
  EXPECT_THAT(fault, HasSubstr("60 of 64 threads are at a barrier"));
  EXPECT_EQ(error_of([&] { EXPECT_EQ(y.item(), 1); }), "");
}

TEST_F(TwoStreams, FindsAReplayThatDoesNotWait) {
  GRAFT_NEEDS_CHECKS();
  const Graph graph = Graph::record(kEmulated, [&] {
    launch(Context::current(), "recorded", {dim3(1), dim3(1)}, add_one_kernel, static_cast<const float*>(x.raw()),
           static_cast<float*>(y.raw()));
  });
  const auto run = [&](bool waits) {
    return error_of([&] {
      graph.replay(first);
      if (waits) second.wait(Event::record(kEmulated, first));
      add(second, "second", y, z);
    });
  };
  EXPECT_EQ(run(true), "");
  EXPECT_THAT(run(false), HasSubstr("'recorded' wrote in another stream"));
}

// What a Downloader copies must stay as it is until it is handed over.
TEST_F(TwoStreams, FindsAWriteOfWhatIsStillDownloaded) {
  GRAFT_NEEDS_CHECKS();
  EXPECT_THAT(error_of([&] {
                ContextScope scope;
                scope->stream = first;
                Downloader downloader(kEmulated);
                add(first, "first", x, y);
                downloader.download({y}, [](std::span<const Tensor>) {});
                add(first, "later", x, y);
                downloader.finish();
              }),
              HasSubstr("[later] block (0,0,0), thread (0,0,0): writes byte 0 of a tensor, which 'copy' read in "
                        "another stream"));
}

TEST(Emulated, FindsMemoryThatIsGivenAwayWhileALaunchNeedsIt) {
  GRAFT_NEEDS_CHECKS();
  ContextScope scope;
  scope->device = kEmulated;
  const Tensor y = floats(1);
  synchronize(kEmulated);
  const Stream other = Stream::create(kEmulated);
  {
    const Tensor x = floats(1);  // in the order of the default stream
    synchronize(kEmulated);
    scope->stream = other;
    launch(Context::current(), "planted", {dim3(1), dim3(1)}, add_one_kernel, static_cast<const float*>(x.raw()),
           static_cast<float*>(y.raw()));
  }
  try {
    other.synchronize(kEmulated);
    ADD_FAILURE() << "nothing was found";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("freed in the order of another stream"));
  }
}

TEST(Emulated, FindsAUseOfFreedMemory) {
  const Tensor y = floats(1);
  const float* gone = nullptr;
  {
    const Tensor x = floats(1);
    gone = static_cast<const float*>(x.raw());
  }
  synchronize(kEmulated);
  GRAFT_EXPECT_FOUND(error_of({dim3(1), dim3(1)}, add_one_kernel, gone, static_cast<float*>(y.raw())),
                     HasSubstr("was freed before this was queued"), "use-after-poison");
}

TEST(Emulated, ReplaysWhatItRecorded) {
  const Tensor x = floats(1), y = floats(1);
  const Graph graph = Graph::record(kEmulated, [&] {
    const Tensor between = Tensor::empty({1}, DType::f32, kEmulated);
    launch(Context::current(), "one", {dim3(1), dim3(1)}, add_one_kernel, static_cast<const float*>(x.raw()),
           static_cast<float*>(between.raw()));
    launch(Context::current(), "two", {dim3(1), dim3(1)}, add_one_kernel, static_cast<const float*>(between.raw()),
           static_cast<float*>(y.raw()));
  });
  EXPECT_EQ(graph.size(), 2u);
  EXPECT_EQ(y.item(), 0) << "a recording is not run";
  for (const double value : {10, 20}) {
    Tensor(x).fill(value);
    graph.replay();
    EXPECT_EQ(y.item(), value + 2);
  }
  EXPECT_EQ(last_launches().back(), "a recording of 2 kernels and copies (one, two)");
}

// Whoever runs out of memory gives back what is cached: never what a recording still writes to.
TEST(Emulated, KeepsTheMemoryOfARecordingThatLives) {
  const Tensor x = floats(1), y = floats(1);
  const Graph graph = Graph::record(kEmulated, [&] {
    const Tensor between = Tensor::empty({1}, DType::f32, kEmulated);
    launch(Context::current(), "one", {dim3(1), dim3(1)}, add_one_kernel, static_cast<const float*>(x.raw()),
           static_cast<float*>(between.raw()));
    launch(Context::current(), "two", {dim3(1), dim3(1)}, add_one_kernel, static_cast<const float*>(between.raw()),
           static_cast<float*>(y.raw()));
  });
  release_cached_memory(kEmulated);
  const Tensor others = Tensor::full({1}, 7, DType::f32, kEmulated);
  graph.replay();
  EXPECT_EQ(y.item(), 2);
  EXPECT_EQ(others.item(), 7);
}

TEST(Emulated, AReplayCountsAsAWriteAndIsNamed) {
  Tensor x = floats(1), other = floats(1);
  const Graph graph = Graph::record(kEmulated, [&] {
    Tensor::zeros({3}, DType::f32, kEmulated);
    x.fill(3);
    x.fill(4);
  });
  const std::uint64_t before = x.version(), of_other = other.version();
  graph.replay();
  EXPECT_EQ(x.version(), before + 1);
  EXPECT_EQ(other.version(), of_other);
  EXPECT_EQ(last_launches().back(), "a recording of 3 kernels and copies");
  EXPECT_EQ(x.item(), 4);
}

TEST(Emulated, FindsTheHostInARecording) {
  const Tensor x = floats(1);
  try {
    Graph::record(kEmulated, [&] { x.item(); });
    ADD_FAILURE() << "nothing was found";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("the host takes part in a recording"));
  }
  EXPECT_ERROR(Graph::record(kEmulated,
                             [&] {
                               try {
                                 x.item();
                               } catch (const Error&) {  // who goes on regardless has recorded something else
                               }
                             }),
               "cannot record");
}

// A destructor that waits may be the first to meet a fault. It is told by whoever waits next.
TEST(Emulated, AFaultThatADestructorMeetsIsToldLater) {
  const Tensor y = floats(kThreads), to = floats(1);
  const auto fail_in = [&](const Stream& stream) {
    launch(stream.handle(), "planted", {dim3(1), dim3(kThreads)}, early_return_kernel, static_cast<float*>(y.raw()),
           60u);
  };
  { fail_in(Stream::create(kEmulated)); }
  EXPECT_ERROR(synchronize(kEmulated), "60 of 64 threads are at a barrier");
  {
    Uploader uploader(kEmulated);
    fail_in({});
    const float value = 1;
    uploader.upload(to, &value);
  }
  EXPECT_ERROR(to.item(), "60 of 64 threads are at a barrier");
  {
    Downloader downloader(kEmulated);
    fail_in({});
    downloader.download({to}, [](std::span<const Tensor>) { ADD_FAILURE() << "nothing is there to be used"; });
  }
  EXPECT_ERROR(to.item(), "60 of 64 threads are at a barrier");
  {
    const Graph graph = Graph::record(kEmulated, [&] { fail_in(Context::current().stream); });
    graph.replay();
  }
  EXPECT_ERROR(synchronize(kEmulated), "60 of 64 threads are at a barrier");
  synchronize(kEmulated);
}

// Writes down who comes when.
__global__ void order_kernel(int* count, int* order, int who) {
  order[atomicAdd(count, 1)] = who >= 0 ? who : static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}

using Order = std::vector<int>;

class Shuffling : public ::testing::Test {
 protected:
  ~Shuffling() override { set_shuffle_seed(before_); }

  // The order in which `steps` steps of what `launches` launches take place.
  template <class Launches>
  static Order order_of(std::optional<std::uint64_t> seed, Index steps, const Launches& launches) {
    set_shuffle_seed(seed);
    const Tensor count = Tensor::zeros({1}, DType::i32, kEmulated),
                 order = Tensor::zeros({steps}, DType::i32, kEmulated);
    synchronize(kEmulated);
    ContextScope scope;
    scope->device = kEmulated;
    launches(static_cast<int*>(count.raw()), static_cast<int*>(order.raw()));
    synchronize(kEmulated);
    EXPECT_EQ(count.item(), static_cast<double>(steps));
    const Tensor here = order.to(Device{});
    return {here.data<int>(), here.data<int>() + steps};
  }

  // Nobody is lost and the same seed gives the same order, but seeds differ.
  template <class Launches>
  static void expect_shuffled(Index steps, const Launches& launches) {
    std::set<Order> seen;
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      const Order order = order_of(seed, steps, launches);
      EXPECT_EQ(order_of(seed, steps, launches), order) << "seed " << seed;
      EXPECT_EQ(std::set<int>(order.begin(), order.end()).size(), order.size());
      seen.insert(order);
    }
    EXPECT_GT(seen.size(), 2u);
    Order sorted(static_cast<std::size_t>(steps));
    std::iota(sorted.begin(), sorted.end(), 0);
    EXPECT_EQ(order_of(std::nullopt, steps, launches), sorted) << "without a seed";
  }

 private:
  std::optional<std::uint64_t> before_ = shuffle_seed();
};

TEST_F(Shuffling, OfThreads) {
  expect_shuffled(kThreads, [](int* count, int* order) {
    launch(Context::current(), "order", {dim3(1), dim3(kThreads)}, order_kernel, count, order, -1);
  });
}

TEST_F(Shuffling, OfBlocks) {
  ContextScope scope;
  const int before = threads();
  set_threads(1);  // else blocks run at the same time where nothing is watched
  expect_shuffled(kThreads, [](int* count, int* order) {
    launch(Context::current(), "order", {dim3(kThreads), dim3(1)}, order_kernel, count, order, -1);
  });
  set_threads(before);
}

// Launches of streams that do not wait for each other, two in each.
TEST_F(Shuffling, OfLaunches) {
  expect_shuffled(6, [](int* count, int* order) {
    const Stream streams[] = {Stream::create(kEmulated), Stream::create(kEmulated), Stream::create(kEmulated)};
    for (int i = 0; i < 6; ++i)
      launch(streams[i / 2].handle(), "order", {dim3(1), dim3(1)}, order_kernel, count, order, i);
    synchronize(kEmulated);
  });
}

// x comes up, y = x + 1 is computed and goes down, all on streams of their own.
TEST_F(Shuffling, KeepsTheOrderOfUploadsAndDownloads) {
  for (std::uint64_t seed = 0; seed < 16; ++seed) {
    set_shuffle_seed(seed);
    Uploader uploader(kEmulated);
    Downloader downloader(kEmulated);
    std::vector<float> seen;
    std::vector<float> expected;
    for (float value = 0; value < 6; ++value) {
      const Tensor here = Tensor::full({1}, value), x = uploader.upload(here), y = floats(1);
      Tensor(here).fill(-1);
      launch(Context::current(), "add", {dim3(1), dim3(1)}, add_one_kernel, static_cast<const float*>(x.raw()),
             static_cast<float*>(y.raw()));
      downloader.download({y}, [&](std::span<const Tensor> values) { seen.push_back(*values[0].data<float>()); });
      expected.push_back(value + 1);
    }
    downloader.finish();
    EXPECT_EQ(seen, expected) << "seed " << seed;
  }
}

TEST_F(Shuffling, KeepsTheOrderOfAStreamAndOfEvents) {
  for (std::uint64_t seed = 0; seed < 16; ++seed) {
    const Order seen = order_of(seed, 4, [](int* count, int* order) {
      const Stream first = Stream::create(kEmulated), second = Stream::create(kEmulated);
      const auto go = [&](const Stream& stream, int who) {
        launch(stream.handle(), "order", {dim3(1), dim3(1)}, order_kernel, count, order, who);
      };
      go(first, 0);
      go(first, 1);
      second.wait(Event::record(kEmulated, first));
      go(second, 2);
      go(second, 3);
      synchronize(kEmulated);
    });
    EXPECT_EQ(seen, (Order{0, 1, 2, 3})) << "seed " << seed;
  }
}

}  // namespace
}  // namespace graft::emulated
