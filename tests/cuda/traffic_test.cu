// What the emulated device counts of accesses whose cost is known.

#include <gtest/gtest.h>

#include "graft/core/tensor.h"

#include "device/async_copy.h"
#include "device/mma.h"
#include "device/numeric.h"
#include "emulated/traffic.h"
#include "runtime/launch.h"

namespace graft::emulated {
namespace {

constexpr Device kEmulated{Device::Kind::emulated, 0};
constexpr int kLanes = 32, kFloats = 32 * 32 * 4;

// Runs one block and returns what it asked for.
template <class... Parameters, class... Arguments>
Traffic traffic_of(unsigned threads, void (*kernel)(Parameters...), const Arguments&... arguments) {
  ContextScope scope;
  scope->device = kEmulated;
  synchronize(kEmulated);
  count_traffic(true);
  take_traffic();
  launch(Context::current(), "counted", {dim3(1), dim3(threads)}, kernel, arguments...);
  synchronize(kEmulated);
  count_traffic(false);
  return take_traffic()["counted"];
}

class TrafficTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!GRAFT_EMULATED_CHECKS) GTEST_SKIP() << "built with another sanitizer (GRAFT_SANITIZE)";
  }
  Tensor tensor = Tensor::zeros({kFloats}, DType::f32, kEmulated);
  float* x = static_cast<float*>(tensor.raw());
};

__global__ void read_kernel(const float* from, float* to, int stride) {
  const float value = from[static_cast<int>(threadIdx.x) * stride];
  if (value != 0) *to = value;  // nobody does, but the compiler must read
}

TEST_F(TrafficTest, CountsSectorsOfGlobalMemory) {
  EXPECT_EQ(traffic_of(kLanes, read_kernel, x, x, 0), (Traffic{.global_requests = 1, .read_sectors = 1}));
  EXPECT_EQ(traffic_of(kLanes, read_kernel, x, x, 1), (Traffic{.global_requests = 1, .read_sectors = 4}));
  EXPECT_EQ(traffic_of(kLanes, read_kernel, x + 1, x, 1), (Traffic{.global_requests = 1, .read_sectors = 5}));
  EXPECT_EQ(traffic_of(kLanes, read_kernel, x, x, 8), (Traffic{.global_requests = 1, .read_sectors = 32}));
  EXPECT_EQ(traffic_of(4, read_kernel, x, x, 1), (Traffic{.global_requests = 1, .read_sectors = 1}));
  EXPECT_EQ(traffic_of(3 * kLanes, read_kernel, x, x, 1), (Traffic{.global_requests = 3, .read_sectors = 12}));
}

template <int N>
__global__ void copy_kernel(const float* from, float* to) {
  store(to + threadIdx.x * N, load<N>(from + threadIdx.x * N));
}

TEST_F(TrafficTest, CountsAVectorOnce) {
  EXPECT_EQ(traffic_of(kLanes, copy_kernel<1>, x, x + 128),
            (Traffic{.global_requests = 2, .read_sectors = 4, .written_sectors = 4}));
  EXPECT_EQ(traffic_of(kLanes, copy_kernel<4>, x, x + 128),
            (Traffic{.global_requests = 2, .read_sectors = 16, .written_sectors = 16}));
}

template <int N>
__global__ void shared_kernel(int stride) {
  GRAFT_SHARED(float, tile, kFloats);
  store(tile + static_cast<int>(threadIdx.x) * stride * N, Vector<float, N>{});
}

TEST_F(TrafficTest, CountsRoundsOfSharedMemory) {
  const auto rounds = [](std::int64_t wavefronts, std::int64_t conflicts) {
    return Traffic{.shared_requests = 1, .shared_wavefronts = wavefronts, .bank_conflicts = conflicts};
  };
  EXPECT_EQ(traffic_of(kLanes, shared_kernel<1>, 1), rounds(1, 0));
  EXPECT_EQ(traffic_of(kLanes, shared_kernel<1>, 2), rounds(2, 1));
  EXPECT_EQ(traffic_of(kLanes, shared_kernel<1>, 8), rounds(8, 7));
  EXPECT_EQ(traffic_of(kLanes, shared_kernel<1>, 32), rounds(32, 31));
  EXPECT_EQ(traffic_of(kLanes, shared_kernel<1>, 33), rounds(1, 0));
  EXPECT_EQ(traffic_of(kLanes, shared_kernel<2>, 1), rounds(2, 0));
  EXPECT_EQ(traffic_of(kLanes, shared_kernel<4>, 1), rounds(4, 0));
  EXPECT_EQ(traffic_of(kLanes, shared_kernel<4>, 2), rounds(8, 4));
}

__global__ void broadcast_kernel(float* to) {
  GRAFT_SHARED(float, tile, kLanes);
  tile[threadIdx.x] = 1;
  __syncthreads();
  to[threadIdx.x] = tile[5];
}

TEST_F(TrafficTest, AWordThatAllLanesReadIsOneRound) {
  EXPECT_EQ(traffic_of(kLanes, broadcast_kernel, x),
            (Traffic{.global_requests = 1, .written_sectors = 4, .shared_requests = 2, .shared_wavefronts = 2}));
}

// Rows of matrices `pitch` halves apart: 16 bytes of each of eight rows are one round if they lie in different banks.
__global__ void matrices_kernel(int pitch) {
  GRAFT_SHARED(bfloat16, tile, kFloats);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 32 * pitch; i += kLanes) tile[i] = bfloat16(0.f);
  __syncthreads();
  std::uint32_t to[4];
  load_matrices<false>(tile + lane * pitch, to);
}

TEST_F(TrafficTest, CountsMatricesByTheirRows) {
  const auto conflicts = [&](int pitch) { return traffic_of(kLanes, matrices_kernel, pitch).bank_conflicts; };
  EXPECT_EQ(conflicts(64), 4 * 7);  // all eight rows of each matrix in the same four banks
  EXPECT_EQ(conflicts(32), 4 * 3);
  EXPECT_EQ(conflicts(64 + 8), 0);
}

__global__ void async_kernel(const float* from) {
  GRAFT_SHARED(float, tile, kLanes * 4);
  copy_async<16>(tile + threadIdx.x * 4, from + threadIdx.x * 4, true);
  commit_copies();
  wait_for_copies<0>();
}

TEST_F(TrafficTest, CountsAnAsynchronousCopyOnce) {
  EXPECT_EQ(traffic_of(kLanes, async_kernel, x),
            (Traffic{.global_requests = 1, .read_sectors = 16, .shared_requests = 1, .shared_wavefronts = 4}));
}

TEST_F(TrafficTest, CountsNothingUnlessAsked) {
  ContextScope scope;
  scope->device = kEmulated;
  launch(Context::current(), "not counted", {dim3(1), dim3(kLanes)}, read_kernel, x, x, 1);
  synchronize(kEmulated);
  EXPECT_TRUE(take_traffic().empty());
}

}  // namespace
}  // namespace graft::emulated
