#include "core/packed.h"

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "graft/core/tensor.h"

namespace graft {
namespace {

struct Counted {
  int made = 0;

  float first_doubled(const Tensor& from, const std::string& layout = "doubled") {
    const Operand x = from;
    const auto copy = packed(x, layout, sizeof(float), [&](void* to) {
      ++made;
      *static_cast<float*>(to) = 2 * x.as<float>()[0];
    });
    return *reinterpret_cast<const float*>(copy->data());
  }
};

TEST(Packed, IsMadeEachTimeUnlessItMayBeKept) {
  Counted counted;
  const Tensor x = Tensor::full({4}, 3);
  EXPECT_EQ(counted.first_doubled(x), 6);
  EXPECT_EQ(counted.first_doubled(x), 6);
  EXPECT_EQ(counted.made, 2);
  x.storage()->keep_packed(true);
  EXPECT_EQ(counted.first_doubled(x), 6);
  EXPECT_EQ(counted.first_doubled(x), 6);
  EXPECT_EQ(counted.made, 3);
}

TEST(Scratch, IsReusedOnceNobodyHoldsIt) {
  std::shared_ptr<Storage> first = scratch(1000), second = scratch(1000);
  EXPECT_NE(first, second);
  const Storage* const was = first.get();
  first = nullptr;
  EXPECT_EQ(scratch(500).get(), was) << "a smaller one fits";
  const std::shared_ptr<Storage> larger = scratch(2000);
  EXPECT_GE(larger->bytes(), 2000u);
  EXPECT_NE(larger, second);
  second = nullptr;
  EXPECT_NE(scratch(10), larger);
  std::thread([&] { EXPECT_NE(scratch(10), larger) << "another thread's"; }).join();
}

TEST(Packed, IsMadeAnewOnceTheElementsChanged) {
  Counted counted;
  Tensor x = Tensor::full({4}, 3);
  x.storage()->keep_packed(true);
  EXPECT_EQ(counted.first_doubled(x), 6);
  x.fill(5);
  EXPECT_EQ(counted.first_doubled(x), 10);
  EXPECT_EQ(counted.made, 2);
}

TEST(Packed, TellsLayoutsAndPlacesApart) {
  Counted counted;
  Tensor x = Tensor::from<float>({2, 1}, {1, 2});
  x.storage()->keep_packed(true);
  EXPECT_EQ(counted.first_doubled(x.rows(0, 1)), 2);
  EXPECT_EQ(counted.first_doubled(x.rows(1, 1)), 4);
  EXPECT_EQ(counted.first_doubled(x.rows(1, 1), "another"), 4);
  EXPECT_EQ(counted.made, 3);
}

TEST(Packed, IsGivenBackWhenItMayNoLongerBeKept) {
  const Tensor x = Tensor::full({1 << 20}, 1);
  Counted counted;
  x.storage()->keep_packed(true);
  counted.first_doubled(x);
  const std::size_t held = memory_use().in_use;
  x.storage()->keep_packed(false);
  EXPECT_LT(memory_use().in_use, held);
}

// A plan that was bound before goes on without.
TEST(Packed, IsMadeEachTimeAgainOnceItWasGivenBack) {
  const Tensor x = Tensor::full({4}, 3);
  x.storage()->keep_packed(true);
  const Operand bound = x;
  x.storage()->keep_packed(false);
  const auto copy = packed(bound, "doubled", sizeof(float), [](void* to) { *static_cast<float*>(to) = 6; });
  EXPECT_EQ(*reinterpret_cast<const float*>(copy->data()), 6);
}

// Plans of one network, each of which several threads may run for the first time.
TEST(Packed, IsOneForManyThreadsThatBegin) {
  constexpr int kThreads = 2, kRounds = 2000;
  std::vector<Tensor> weights(kRounds);
  for (Tensor& weight : weights) weight = Tensor::full({4}, 3);
  std::vector<std::vector<const PackedCopies*>> seen(kThreads);
  std::atomic<int> arrived = 0;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (std::vector<const PackedCopies*>& own : seen) {
    threads.emplace_back([&weights, &arrived, &own] {
      own.reserve(kRounds);
      for (int round = 0; round < kRounds; ++round) {
        ++arrived;
        while (arrived < kThreads * (round + 1)) std::this_thread::yield();
        Storage& storage = *weights[static_cast<std::size_t>(round)].storage();
        storage.keep_packed(true);
        own.push_back(storage.packed());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<const PackedCopies*>& own : seen) EXPECT_EQ(own, seen.front());
}

TEST(Rounded, HasACopyOfEachHalfType) {
  Tensor x = Tensor::full({4}, 3);
  const auto keep = [&](DType type) {
    x.storage()->keep_rounded(x.to(type).storage(), type);
    return Operand(x).half(type);
  };
  const Operand bound = x;
  const void *const bf16 = keep(DType::bf16), *const f16 = keep(DType::f16);
  EXPECT_NE(bf16, f16);
  EXPECT_EQ(bound.half(DType::bf16), bf16);
  EXPECT_EQ(bound.half(DType::f16), f16);
  EXPECT_EQ(bound.half(DType::f32), nullptr);
  EXPECT_EQ(x.storage()->rounded()->dtype, DType::f16) << "the last one";
  EXPECT_EQ(Operand(x.rows(0, 2)).half(DType::bf16), nullptr) << "a copy of more";
  x.fill(5);
  EXPECT_EQ(bound.half(DType::bf16), nullptr);
  EXPECT_EQ(x.storage()->memory_of_rounded(DType::bf16)->data(), bf16);
}

}  // namespace
}  // namespace graft
