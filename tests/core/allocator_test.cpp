#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/caching_allocator.h"
#include "support/expect.h"

namespace graft {
namespace {

// Whoever runs out of memory wants to know what takes it.
TEST(CachingAllocator, SaysWhatHoldsTheMemoryThatIsMissing) {
  static std::size_t left = 8192;
  CachingAllocator allocator({Device::Kind::cuda, 0},
                             {.allocate = [](std::size_t bytes, int, const void*) -> std::byte* {
                                if (bytes > left) return nullptr;
                                left -= bytes;
                                return new std::byte[bytes];
                              },
                              .free = [](std::byte* block, int, const void*) { delete[] block; }});
  std::byte* const weights = allocator.allocate(4096, Purpose::parameters);
  std::byte* const saved = allocator.allocate(2048, Purpose::activations);
  EXPECT_ERROR(
      allocator.allocate(4096, Purpose::gradients),
      "[memory] cuda:0 has no 4096 bytes left; graft holds 6144 bytes: 4096 in parameters, 2048 in activations");
  EXPECT_ERROR(allocator.fail_full("memory for a recording"),
               "[memory] cuda:0 has no memory for a recording left; graft holds 6144 bytes: 4096 in parameters");
  allocator.free(saved, 2048, Purpose::activations);
  EXPECT_EQ(allocator.use().by_purpose[static_cast<std::size_t>(Purpose::activations)], 0u);
  allocator.free(weights, 4096, Purpose::parameters);
  allocator.release_cached();
}

// What kernels that were recorded write to is nobody else's while they can be replayed, however little memory is left.
TEST(CachingAllocator, KeepsTheMemoryOfARecordedQueue) {
  for (const bool keep : {true, false}) {
    SCOPED_TRACE(keep);
    static std::size_t left;
    static std::vector<std::byte*> freed;
    left = 4096;
    freed.clear();
    CachingAllocator allocator({Device::Kind::cuda, 0},
                               {.allocate = [](std::size_t bytes, int, const void*) -> std::byte* {
                                  if (bytes > left) return nullptr;
                                  left -= bytes;
                                  return new std::byte[bytes];
                                },
                                .free =
                                    [](std::byte* block, int, const void*) {
                                      freed.push_back(block);
                                      delete[] block;
                                    },
                                .keep = keep});
    const int recorded = 0, another = 0;
    allocator.hold(&recorded);
    std::byte* const temporary = allocator.allocate(2048, Purpose::other, &recorded);
    std::byte* const cached = allocator.allocate(1024, Purpose::other, &another);
    allocator.free(temporary, 2048, Purpose::other, &recorded);
    allocator.free(cached, 1024, Purpose::other, &another);
    EXPECT_ERROR(allocator.allocate(4096, Purpose::other, &another), "has no 4096 bytes left");
    allocator.release_cached();
    EXPECT_THAT(freed, testing::ElementsAre(cached));
    allocator.release_cached(&recorded);
    EXPECT_THAT(freed, testing::ElementsAre(cached, temporary));
    EXPECT_EQ(allocator.use().cached, 0u);
  }
}

}  // namespace
}  // namespace graft
