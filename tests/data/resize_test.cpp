#include "graft/data/resize.h"

#include <gtest/gtest.h>

#include "graft/data/preprocess.h"

#include "data/support.h"
#include "support/expect.h"

namespace graft::data {
namespace {

constexpr Resampling kAll[] = {Resampling::nearest, Resampling::bilinear, Resampling::antialias, Resampling::bicubic};

TEST(Resize, KeepsAConstantColor) {
  for (const Resampling r : kAll) {
    for (const auto& [height, width] : {std::pair<Index, Index>{1, 1}, {7, 90}, {61, 3}}) {
      const Tensor image = Tensor::full({31, 17, 3}, 201, DType::u8);
      EXPECT_EQ(largest_difference(resize(image, height, width, r).to(DType::u8),
                                   Tensor::full({height, width, 3}, 201, DType::u8)),
                0)
          << name(r);
    }
  }
}

TEST(Resize, AtTheSameSizeChangesNothing) {
  for (const Resampling r : kAll) {
    const Tensor image = picture(12, 15);
    const Tensor same = resize(image, 12, 15, r);
    EXPECT_EQ(same.dtype(), r == Resampling::bilinear ? DType::f32 : DType::u8);
    EXPECT_EQ(largest_difference(same.to(DType::u8), image), 0) << name(r);
  }
}

TEST(Resize, MatchesValuesWorkedOutByHand) {
  const Tensor image = Tensor::from<float>({1, 4, 1}, {0, 10, 20, 90});
  struct Case {
    Resampling resampling;
    Index width;
    std::vector<float> expected;
  };
  for (const Case& c :
       {Case{Resampling::nearest, 2, {10, 90}}, Case{Resampling::bilinear, 2, {5, 55}},  // centres at 0.5 and 2.5
        Case{Resampling::antialias, 2, {50.f / 7, 340.f / 7}},  // weights 3, 3, 1 and 1, 3, 3 of 7
        Case{Resampling::bilinear, 8, {0, 2.5f, 7.5f, 12.5f, 17.5f, 37.5f, 72.5f, 90}}}) {
    const Tensor expected = Tensor::from<float>({1, c.width, 1}, c.expected);
    EXPECT_LE(largest_difference(resize(image, 1, c.width, c.resampling), expected), 1e-5) << name(c.resampling);
  }
}

TEST(Resize, CropKeepsTheMiddleAndPadAddsBackground) {
  const Tensor image = Tensor::from<std::uint8_t>({1, 4, 3}, {1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4});
  const Tensor cropped = resize(image, 1, 2, Resampling::nearest, Fit::crop);
  EXPECT_EQ(largest_difference(cropped, Tensor::from<std::uint8_t>({1, 2, 3}, {2, 2, 2, 3, 3, 3})), 0);
  const Tensor padded = resize(image, 3, 4, Resampling::nearest, Fit::pad, {7, 8, 9});
  EXPECT_EQ(largest_difference(padded.rows(1, 1), image.reshaped({1, 1, 4, 3}).reshaped({1, 4, 3})), 0);
  for (const Index row : {0, 2}) {
    EXPECT_EQ(largest_difference(padded.rows(row, 1),
                                 Tensor::from<std::uint8_t>({1, 4, 3}, {7, 8, 9, 7, 8, 9, 7, 8, 9, 7, 8, 9})),
              0);
  }
}

// Scaled until it covers the square, a strip would be 224 x 14,560,000: only what is kept may be computed.
TEST(Resize, CropsAnExtremeStripWithoutItsWholeLength) {
  const Tensor strip = picture(1, 65000);
  for (const Resampling r : kAll) {
    reset_peak_memory();
    const auto before = memory_use().peak;
    EXPECT_EQ(resize(strip, 224, 224, r, Fit::crop).shape(), (Shape{224, 224, 3}));
    EXPECT_LT(memory_use().peak - before, 4u << 20) << name(r);
  }
}

TEST(Resize, RefusesWhatIsNoImage) {
  EXPECT_ERROR(resize(Tensor::zeros({4, 4}), 2, 2, Resampling::nearest),
               "[resize] expected an image [H, W, C] of u8 or f32, got f32 [4, 4]");
  EXPECT_ERROR(resize(Tensor::zeros({0, 4, 3}), 2, 2, Resampling::nearest), "got f32 [0, 4, 3]");
  EXPECT_ERROR(resize(Tensor::zeros({4, 4, 3}, DType::i64), 2, 2, Resampling::nearest), "got i64");
  EXPECT_ERROR(resize(Tensor::zeros({4, 4, 3}), 0, 2, Resampling::nearest), "got 0 x 2");
}

TEST(Preprocess, IsTheThreeFormulasOfKeras) {
  const Tensor pixel = Tensor::from<std::uint8_t>({1, 1, 3}, {255, 0, 100});
  struct Case {
    Preprocessing preprocessing;
    std::vector<float> expected;
  };
  for (const Case& c :
       {Case{caffe_preprocessing(1), {100 - 103.939f, 0 - 116.779f, 255 - 123.68f}},
        Case{tf_preprocessing(1), {1, -1, 100 / 127.5f - 1}},
        Case{torch_preprocessing(1), {(1 - .485f) / .229f, -.456f / .224f, (100 / 255.f - .406f) / .225f}}}) {
    EXPECT_LE(largest_difference(preprocess(pixel, c.preprocessing), Tensor::from<float>({1, 1, 3}, c.expected)), 1e-5);
  }
}

TEST(Preprocess, ABatchIsItsImages) {
  Preprocessing p = tf_preprocessing(20);
  p.fit = Fit::pad;
  const std::vector<Tensor> images = {picture(30, 11, 3, 1), picture(9, 44, 3, 2)};
  const Tensor batch = preprocess(images, p);
  EXPECT_EQ(batch.shape(), (Shape{2, 20, 20, 3}));
  for (Index i = 0; i < 2; ++i) {
    EXPECT_EQ(
        largest_difference(batch.rows(i, 1).reshaped({20, 20, 3}), preprocess(images[static_cast<std::size_t>(i)], p)),
        0);
  }
}

TEST(Preprocess, RefusesOtherChannels) {
  EXPECT_ERROR(preprocess(Tensor::zeros({4, 4, 1}), tf_preprocessing(2)),
               "[preprocess] expected an image [H, W, 3] of u8 or f32, got f32 [4, 4, 1]");
}

}  // namespace
}  // namespace graft::data
