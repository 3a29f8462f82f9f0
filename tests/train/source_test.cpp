#include "graft/train/source.h"

#include <gtest/gtest.h>

#include "support/op_check.h"
#include "train/samples.h"

namespace graft::train {
namespace {

std::vector<float> floats(const Tensor& tensor) {
  const Tensor here = tensor.to(Device{}).to(DType::f32);
  return {here.values<float>().begin(), here.values<float>().end()};
}

// What a network on a device makes of photos that come as bytes, and of the same photos preprocessed on the CPU.
TEST(PhotoSource, BytesGiveTheSameNumbersAsFloats) {
  const test::TemporaryFolder folder("bytes");
  const auto photos = test::stripe_photos(folder.path(), 10, 1);
  for (const Device device : test::devices()) {
    nn::Network network = test::small_network();
    network.to(device);
    data::LoaderOptions options{
        .preprocessing = caffe_preprocessing(12), .batch = 4, .seed = 3, .augmentation = {}, .workers = 1};
    network.preprocessing = options.preprocessing;
    const auto as_floats = photo_source(photos, options, "input");
    options.keep_bytes = true;
    const auto as_bytes = photo_source(photos, options, "input");
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const autograd::NoGrad off;
      as_floats->start_epoch(0);
      as_bytes->start_epoch(0);
      while (const auto want = as_floats->next()) {
        const auto got = as_bytes->next();
        ASSERT_TRUE(got.has_value());
        EXPECT_EQ(want->values.at("input").dtype(), DType::f32);
        EXPECT_EQ(got->values.at("input").dtype(), DType::u8);
        EXPECT_EQ(got->indices, want->indices);
        EXPECT_EQ(floats(run(network, *got, dtype).logits), floats(run(network, *want, dtype).logits))
            << device.to_string();
      }
    }
  }
}

}  // namespace
}  // namespace graft::train
