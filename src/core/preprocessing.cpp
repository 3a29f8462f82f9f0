#include "graft/core/preprocessing.h"

#include "core/format.h"

namespace graft {

Preprocessing caffe_preprocessing(int size) {
  return {.height = size, .width = size, .bgr = true, .mean = {103.939f, 116.779f, 123.68f}};
}

Preprocessing tf_preprocessing(int size) {
  return {.height = size, .width = size, .mean = {127.5f, 127.5f, 127.5f}, .divisor = {127.5f, 127.5f, 127.5f}};
}

Preprocessing torch_preprocessing(int size) {
  return {.height = size, .width = size, .mean = {123.675f, 116.28f, 103.53f}, .divisor = {58.395f, 57.12f, 57.375f}};
}

std::string_view name(Resampling resampling) {
  constexpr std::string_view kNames[] = {"nearest", "bilinear", "antialias", "bicubic"};
  return kNames[static_cast<int>(resampling)];
}

Resampling resampling_from_name(std::string_view text) {
  for (const auto r : {Resampling::nearest, Resampling::bilinear, Resampling::antialias, Resampling::bicubic}) {
    if (name(r) == text) return r;
  }
  fail("[preprocessing] expected nearest, bilinear, antialias or bicubic, got '{}'", text);
}

std::string_view name(Fit fit) {
  constexpr std::string_view kNames[] = {"squash", "crop", "pad"};
  return kNames[static_cast<int>(fit)];
}

Fit fit_from_name(std::string_view text) {
  for (const auto f : {Fit::squash, Fit::crop, Fit::pad}) {
    if (name(f) == text) return f;
  }
  fail("[preprocessing] expected squash, crop or pad, got '{}'", text);
}

}  // namespace graft
