#include "graft/ops/preprocess.h"

#include <gtest/gtest.h>

#include "graft/data/preprocess.h"

#include "kernels/preprocess.h"
#include "support/expect.h"
#include "support/op_check.h"

namespace graft {
namespace {

// Bytes in which every value comes in every channel, if there are pixels enough.
Tensor bytes(const Shape& shape) {
  Tensor images = Tensor::empty(shape, DType::u8);
  auto* data = images.mutable_data<std::uint8_t>();
  for (Index i = 0; i < images.elements(); ++i) data[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
  return images;
}

std::vector<float> floats(const Tensor& tensor) {
  const Tensor wide = tensor.to(DType::f32);
  return {wide.values<float>().begin(), wide.values<float>().end()};
}

const std::vector<Preprocessing> kModes{caffe_preprocessing(), tf_preprocessing(), torch_preprocessing()};

TEST(Preprocess, EveryEngineAgrees) {
  for (const Preprocessing& p : kModes) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::f64})
      test::check_engines({.what = "two images, pixels beyond the groups of four",
                           .op = std::make_shared<ops::Preprocess>(p, dtype),
                           .inputs = {bytes({2, 3, 7, 3})}});
  }
}

// What the CPU does to a photo that is loaded, and nothing else, in f32 and after it is rounded.
TEST(Preprocess, IsThatOfPhotosToTheBit) {
  std::vector<Device> devices = test::devices();
  devices.push_back({});
  for (const Shape& shape :
       {Shape{1, 14, 12, 3}, Shape{2, 13, 11, 3}, Shape{1, 1, 1, 3}, Shape{0, 4, 4, 3}, Shape{3}}) {
    const Tensor images = bytes(shape);
    for (const Preprocessing& p : kModes) {
      Tensor want = Tensor::empty(shape);
      data::normalize_into(images, p, want);
      for (const Device device : devices) {
        for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
          const Tensor got = ops::preprocess(images.to(device), p, dtype).to(Device{});
          ASSERT_EQ(got.dtype(), dtype);
          EXPECT_EQ(floats(got), floats(want.to(dtype))) << device.to_string() << ' ' << shape.to_string();
        }
      }
    }
  }
}

TEST(Preprocess, WritesAChannelRange) {
  const Tensor images = bytes({1, 4, 6, 3});
  const Tensor want = ops::preprocess(images, caffe_preprocessing());
  for (const Device device : test::devices()) {
    ContextScope scope;
    scope->device = device;
    const Tensor there = images.to(device), wide = Tensor::full({1, 4, 6, 5}, 7, DType::f32, device);
    Operand y = wide;
    y.data = y.as<float>() + 1;
    y.shape = want.shape();
    kernels::preprocess(Context::current(), caffe_preprocessing(), there, y);
    const Tensor here = wide.to(Device{});
    for (Index i = 0; i < here.elements(); ++i) {
      const Index channel = i % 5 - 1;
      ASSERT_EQ(here.data<float>()[i], channel < 0 || channel > 2 ? 7 : want.data<float>()[i / 5 * 3 + channel]) << i;
    }
  }
}

TEST(Preprocess, NamesWhatDoesNotFit) {
  EXPECT_ERROR(ops::preprocess(Tensor::zeros({2, 2, 3}), {}),
               "[preprocess] expected images [..., 3] of u8, got f32 [2, 2, 3]");
  EXPECT_ERROR(ops::preprocess(bytes({2, 2, 4}), {}), "got u8 [2, 2, 4]");
  EXPECT_ERROR(ops::preprocess(bytes({2, 2, 3}), {}, DType::i64), "expected a floating type for the result, got i64");
}

}  // namespace
}  // namespace graft
