#include "graft/data/augment.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "data/support.h"
#include "support/expect.h"

namespace graft::data {
namespace {

Tensor mirrored(const Tensor& image) {
  Tensor result = image.to(DType::f32).clone();
  float* out = result.mutable_data<float>();
  const Tensor from = image.to(DType::f32);
  const Index width = image.shape()[1], channels = image.shape()[2];
  for (Index i = 0; i < image.elements(); ++i) {
    const Index c = i % channels, x = i / channels % width, y = i / channels / width;
    out[i] = from.data<float>()[(y * width + width - 1 - x) * channels + c];
  }
  return result;
}

TEST(Augmentation, IsReadFromText) {
  EXPECT_EQ(Augmentation::parse(""), Augmentation{});
  EXPECT_FALSE(Augmentation::parse("").any());
  const auto all = Augmentation::parse("flip,rotate=15,zoom=0.1,brightness=0.2,contrast=0.25");
  EXPECT_EQ(all, (Augmentation{.flip = true, .rotate = 15, .zoom = 0.1, .brightness = 0.2, .contrast = 0.25}));
  EXPECT_EQ(Augmentation::parse(all.to_string()), all);
  EXPECT_EQ(Augmentation::parse("contrast=0.5,flip"), (Augmentation{.flip = true, .contrast = 0.5}));
}

TEST(Augmentation, NamesTheWordThatIsWrong) {
  EXPECT_ERROR(Augmentation::parse("flip,shear=1"),
               "[augment] expected flip, rotate, zoom, brightness or contrast, got 'shear'");
  EXPECT_ERROR(Augmentation::parse("rotate"), "expected 'rotate=' and a number from 0 to 180, got 'rotate'");
  EXPECT_ERROR(Augmentation::parse("rotate=fast"), "got 'rotate=fast'");
  EXPECT_ERROR(Augmentation::parse("rotate=1x"), "got 'rotate=1x'");
  EXPECT_ERROR(Augmentation::parse("zoom=nan"), "got 'zoom=nan'");
  EXPECT_ERROR(Augmentation::parse("brightness=1.5"), "from 0 to 1, got 'brightness=1.5'");
  EXPECT_ERROR(Augmentation::parse("flip=1"), "'flip' takes no number");
  EXPECT_ERROR(Augmentation::parse("zoom=0.1,zoom=0.2"), "'zoom' comes twice");
  EXPECT_ERROR(Augmentation::parse("flip,"), "after the last comma");
  EXPECT_ERROR(Augmentation::parse("flip,,zoom=0.1"), "got ''");
}

TEST(Augment, WithoutAnythingIsTheImage) {
  const Tensor image = picture(9, 7);
  EXPECT_EQ(largest_difference(augment(image, {}, {.seed = 1}), image.to(DType::f32)), 0);
}

TEST(Augment, FlipsHalfOfThem) {
  const Tensor image = picture(6, 9);
  int flipped = 0;
  for (Index photo = 0; photo < 400; ++photo) {
    const Tensor result = augment(image, {.flip = true}, augmentation_generator(1, 0, photo));
    const bool is_flipped = largest_difference(result, mirrored(image)) < 1e-3;
    EXPECT_TRUE(is_flipped || largest_difference(result, image.to(DType::f32)) < 1e-3);
    flipped += is_flipped;
  }
  EXPECT_NEAR(flipped, 200, 40);
}

TEST(Augment, DependsOnSeedEpochAndPhoto) {
  const Tensor image = picture(16, 16);
  const Augmentation all{.flip = true, .rotate = 20, .zoom = 0.2, .brightness = 0.2, .contrast = 0.2};
  const auto at = [&](std::uint64_t seed, std::uint64_t epoch, Index photo) {
    return augment(image, all, augmentation_generator(seed, epoch, photo));
  };
  EXPECT_EQ(largest_difference(at(1, 2, 3), at(1, 2, 3)), 0);
  EXPECT_GT(largest_difference(at(1, 2, 3), at(2, 2, 3)), 1);
  EXPECT_GT(largest_difference(at(1, 2, 3), at(1, 3, 3)), 1);
  EXPECT_GT(largest_difference(at(1, 2, 3), at(1, 2, 4)), 1);
}

// A plane x -> a x + b y + c is sampled exactly by bilinear interpolation, so rotation and zoom can be solved for from
// three pixels of the result.
TEST(Augment, TurnsAndMagnifiesAboutTheCenterWithinItsBounds) {
  const Index size = 41;
  Tensor ramp = Tensor::empty({size, size, 2});
  for (Index y = 0; y < size; ++y) {
    for (Index x = 0; x < size; ++x) {
      ramp.mutable_data<float>()[(y * size + x) * 2] = static_cast<float>(x);
      ramp.mutable_data<float>()[(y * size + x) * 2 + 1] = static_cast<float>(y);
    }
  }
  double most_degrees = 0, most_zoom = 0, least_zoom = 9;
  for (Index photo = 0; photo < 200; ++photo) {
    const Tensor result = augment(ramp, {.rotate = 30, .zoom = 0.25}, augmentation_generator(4, 0, photo));
    const auto at = [&](Index y, Index x, Index c) {
      return static_cast<double>(result.data<float>()[(y * size + x) * 2 + c]);
    };
    EXPECT_NEAR(at(20, 20, 0), 20, 1e-3);
    EXPECT_NEAR(at(20, 20, 1), 20, 1e-3);
    const double dx = at(20, 25, 0) - 20, dy = at(20, 25, 1) - 20;  // where five pixels to the right came from
    const double zoom = 5 / std::hypot(dx, dy), degrees = std::atan2(dy, dx) * 180 / 3.14159265358979;
    EXPECT_NEAR(at(25, 20, 0) - 20, -dy, 1e-3);
    EXPECT_NEAR(at(25, 20, 1) - 20, dx, 1e-3);
    most_degrees = std::max(most_degrees, std::abs(degrees));
    most_zoom = std::max(most_zoom, zoom);
    least_zoom = std::min(least_zoom, zoom);
  }
  EXPECT_GT(most_degrees, 27);
  EXPECT_LE(most_degrees, 30.01);
  EXPECT_GT(most_zoom, 1.2);
  EXPECT_LE(most_zoom, 1.2501);
  EXPECT_LT(least_zoom, 0.8);
  EXPECT_GE(least_zoom, 0.7499);
}

TEST(Augment, BorderPixelsReachOutwards) {
  const Tensor image = Tensor::full({20, 20, 3}, 77, DType::u8);
  for (Index photo = 0; photo < 20; ++photo) {
    const Tensor result =
        augment(image, {.flip = true, .rotate = 180, .zoom = 0.9}, augmentation_generator(0, 0, photo));
    EXPECT_LE(largest_difference(result, Tensor::full({20, 20, 3}, 77)), 1e-3);
  }
}

TEST(Augment, BrightnessAddsAndContrastKeepsTheMean) {
  const Tensor gentle = Tensor::from<float>({1, 4, 1}, {110, 120, 130, 140});
  double most = 0;
  for (Index photo = 0; photo < 100; ++photo) {
    const Tensor brighter = augment(gentle, {.brightness = 0.2}, augmentation_generator(0, 0, photo));
    const float by = brighter.data<float>()[0] - 110;
    most = std::max<double>(most, std::abs(by));
    for (int i = 0; i < 4; ++i) EXPECT_NEAR(brighter.data<float>()[i], gentle.data<float>()[i] + by, 1e-4);

    const Tensor harder = augment(gentle, {.contrast = 0.5}, augmentation_generator(0, 0, photo));
    const float factor = (harder.data<float>()[3] - 125) / 15;
    EXPECT_GE(factor, 0.5f - 1e-5f);
    EXPECT_LE(factor, 1.5f + 1e-5f);
    for (int i = 0; i < 4; ++i)
      EXPECT_NEAR(harder.data<float>()[i], 125 + (gentle.data<float>()[i] - 125) * factor, 1e-4);
  }
  EXPECT_GT(most, 45);
  EXPECT_LE(most, 51.001);
  const Tensor extremes = Tensor::from<float>({1, 2, 1}, {0, 255});
  for (Index photo = 0; photo < 20; ++photo) {
    const Tensor result = augment(extremes, {.brightness = 1, .contrast = 1}, augmentation_generator(0, 1, photo));
    for (const float v : result.values<float>()) EXPECT_TRUE(v >= 0 && v <= 255);
  }
}

TEST(Augment, SwitchingOneOffLeavesTheOthersAsTheyAre) {
  const Tensor flat = Tensor::full({3, 3, 1}, 100);
  const Generator generator{.seed = 9};
  const Tensor alone = augment(flat, {.brightness = 0.3}, generator);
  const Tensor together = augment(flat, {.flip = true, .rotate = 10, .zoom = 0.1, .brightness = 0.3}, generator);
  EXPECT_LE(largest_difference(alone, together), 1e-3);
}

TEST(Augment, RefusesWhatIsNoImage) {
  EXPECT_ERROR(augment(Tensor::zeros({4, 4}), {}, {}), "[augment] expected an image [H, W, C]");
}

}  // namespace
}  // namespace graft::data
