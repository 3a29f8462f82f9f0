// One mistake of each kind that a GPU would hide, and that the emulated device must find.

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graft/core/error.h"
#include "graft/core/graph.h"
#include "graft/core/tensor.h"

#include "device/numeric.h"
#include "device/reduce.h"
#include "runtime/launch.h"

namespace graft::emulated {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr Device kEmulated{Device::Kind::emulated, 0};
constexpr int kThreads = 64;

// The compiler can announce accesses to one sanitizer alone.
#define GRAFT_NEEDS_CHECKS() \
  if (!GRAFT_EMULATED_CHECKS) GTEST_SKIP() << "built with another sanitizer (GRAFT_SANITIZE)"

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
  GRAFT_NEEDS_CHECKS();
  const Tensor x = floats(100), y = floats(100);
  EXPECT_THAT(error_of({dim3(1), dim3(kThreads)}, beyond_kernel, static_cast<const float*>(x.raw()),
                       static_cast<float*>(y.raw()), 100),
              HasSubstr("reads 4 bytes at byte 400 of a tensor that has 400"));
}

__global__ void beyond_shared_kernel(float* y) {
  GRAFT_SHARED(float, tile, kThreads);
  tile[threadIdx.x + 1] = 1;
  __syncthreads();
  y[threadIdx.x] = 1;
}

TEST(Emulated, FindsAWriteBeyondASharedArray) {
  GRAFT_NEEDS_CHECKS();
  const Tensor y = floats(kThreads);
  EXPECT_THAT(error_of({dim3(1), dim3(kThreads)}, beyond_shared_kernel, static_cast<float*>(y.raw())),
              HasSubstr("writes shared memory outside its arrays, at byte 256 of 'tile', which has 256"));
}

__global__ void misaligned_kernel(const float* x, float* y) { store(y, load<4>(x + 1)); }

TEST(Emulated, FindsAMisalignedVector) {
  const Tensor x = floats(8), y = floats(4);
  EXPECT_THAT(
      error_of({dim3(1), dim3(1)}, misaligned_kernel, static_cast<const float*>(x.raw()), static_cast<float*>(y.raw())),
      HasSubstr("reads or writes 16 bytes at once"));
}

__global__ void add_one_kernel(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x] + 1; }

// Without an event the second stream need not see what the first one was given before: here it never does.
TEST(Emulated, ShowsAMissingWaitBetweenStreams) {
  for (const bool waits : {true, false}) {
    ContextScope scope;
    scope->device = kEmulated;
    const Tensor x = floats(1), y = floats(1), z = floats(1);
    synchronize(kEmulated);
    const Stream first = Stream::create(kEmulated), second = Stream::create(kEmulated);
    scope->stream = first;
    launch(Context::current(), "first", {dim3(1), dim3(1)}, add_one_kernel, static_cast<const float*>(x.raw()),
           static_cast<float*>(y.raw()));
    if (waits) second.wait(Event::record(kEmulated, first));
    scope->stream = second;
    launch(Context::current(), "second", {dim3(1), dim3(1)}, add_one_kernel, static_cast<const float*>(y.raw()),
           static_cast<float*>(z.raw()));
    EXPECT_EQ(z.item(), waits ? 2 : 1);
  }
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
  GRAFT_NEEDS_CHECKS();
  const Tensor y = floats(1);
  const float* gone = nullptr;
  {
    const Tensor x = floats(1);
    gone = static_cast<const float*>(x.raw());
  }
  EXPECT_THAT(error_of({dim3(1), dim3(1)}, add_one_kernel, gone, static_cast<float*>(y.raw())),
              HasSubstr("was freed before the kernel was launched"));
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
}

TEST(Emulated, FindsTheHostInARecording) {
  const Tensor x = floats(1);
  try {
    Graph::record(kEmulated, [&] { x.item(); });
    ADD_FAILURE() << "nothing was found";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("the host takes part in a recording"));
  }
}

// A kernel that depends on the order of its blocks gives different results for different seeds.
__global__ void last_block_kernel(int* last) { atomicExch(last, static_cast<int>(blockIdx.x)); }

TEST(Emulated, ShufflesBlocksBySeed) {
  std::set<int> seen;
  const std::optional<std::uint64_t> before = shuffle_seed();
  for (std::uint64_t seed = 0; seed < 16; ++seed) {
    set_shuffle_seed(seed);
    const Tensor last = Tensor::zeros({1}, DType::i32, kEmulated);
    EXPECT_EQ(error_of({dim3(8), dim3(1)}, last_block_kernel, static_cast<int*>(last.raw())), "");
    seen.insert(static_cast<int>(last.item()));
  }
  set_shuffle_seed(before);
  EXPECT_GT(seen.size(), 2u);
}

}  // namespace
}  // namespace graft::emulated
