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
  allocator.free(saved, 2048, Purpose::activations);
  EXPECT_EQ(allocator.use().by_purpose[static_cast<std::size_t>(Purpose::activations)], 0u);
  allocator.free(weights, 4096, Purpose::parameters);
  allocator.release_cached();
}

}  // namespace
}  // namespace graft
