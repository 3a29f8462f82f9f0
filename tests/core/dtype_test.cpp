#include "graft/core/dtype.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "graft/core/error.h"

namespace graft {
namespace {

TEST(DType, NamesAndSizesGoBothWays) {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i32, DType::i64, DType::u8}) {
    EXPECT_EQ(dtype_from_name(name(dtype)), dtype);
  }
  EXPECT_EQ(size_of(DType::bf16), 2u);
  EXPECT_THROW(dtype_from_name("f8"), Error);
}

// Every half converts to float and back to itself, so both directions are exact where they must be.
TEST(Float16, EveryValueSurvivesARoundTrip) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    float16 half;
    half.bits = static_cast<std::uint16_t>(bits);
    const float wide = half;
    if (std::isnan(wide))
      EXPECT_TRUE(std::isnan(static_cast<float>(float16(wide))));
    else
      EXPECT_EQ(float16(wide).bits, bits);
  }
}

TEST(Float16, RoundsToNearestEvenLikeTheCompiler) {
  for (std::uint32_t i = 0; i < 2'000'000; ++i) {
    const float value = std::bit_cast<float>(i * 2147u);
    if (std::isnan(value)) continue;
    EXPECT_EQ(float16(value).bits, std::bit_cast<std::uint16_t>(static_cast<_Float16>(value))) << value;
  }
}

TEST(BFloat16, RoundsToNearestEven) {
  EXPECT_EQ(bfloat16(1.0f).bits, 0x3f80);
  EXPECT_EQ(bfloat16(1.00390625f).bits, 0x3f80);  // halfway between 1 and the next: the even one
  EXPECT_EQ(bfloat16(1.01171875f).bits, 0x3f82);
  EXPECT_TRUE(std::isnan(static_cast<float>(bfloat16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isinf(static_cast<float>(bfloat16(std::numeric_limits<float>::max()))));
}

}  // namespace
}  // namespace graft
