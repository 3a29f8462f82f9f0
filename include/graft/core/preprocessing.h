#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace graft {

/// How pixels are made when an image changes size.
enum class Resampling : std::uint8_t {
  nearest,    ///< PIL's NEAREST
  bilinear,   ///< two by two neighbours, no antialiasing: Keras's image_dataset_from_directory
  antialias,  ///< PIL's BILINEAR: a triangle filter as wide as the reduction
  bicubic,    ///< PIL's BICUBIC: a cubic (a = -0.5) as wide as the reduction
};

/// What happens to an image whose proportions are not the network's.
enum class Fit : std::uint8_t {
  squash,  ///< stretched to the size, proportions lost
  crop,    ///< scaled until it covers the size, the middle kept
  pad,     ///< scaled until it lies inside the size, the rest filled with the background
};

/// What a network expects of an image: its size, and the values its pixels (0 to 255) become. It is saved with the
/// network.
///
/// y = (x - mean) / divisor per channel, in the order of `bgr`.
struct Preprocessing {
  int height = 224;
  int width = 224;
  Resampling resampling = Resampling::antialias;
  Fit fit = Fit::squash;
  bool bgr = false;  ///< blue first; mean and divisor are in that order too
  std::array<float, 3> mean = {0, 0, 0};
  std::array<float, 3> divisor = {1, 1, 1};
  std::array<std::uint8_t, 3> background = {255, 255, 255};  ///< under transparent pixels and around `Fit::pad`, as RGB

  friend bool operator==(const Preprocessing&, const Preprocessing&) = default;
};

/// Keras's `mode="caffe"` (VGG, ResNet): BGR minus (103.939, 116.779, 123.68).
Preprocessing caffe_preprocessing(int size = 224);
/// Keras's `mode="tf"` (MobileNet, Inception): x / 127.5 - 1.
Preprocessing tf_preprocessing(int size = 224);
/// Keras's `mode="torch"` and torchvision: x / 255, minus (.485, .456, .406), divided by (.229, .224, .225).
Preprocessing torch_preprocessing(int size = 224);

/// `nearest`, `bilinear`, `antialias`, `bicubic`.
std::string_view name(Resampling resampling);
Resampling resampling_from_name(std::string_view name);
/// `squash`, `crop`, `pad`.
std::string_view name(Fit fit);
Fit fit_from_name(std::string_view name);

}  // namespace graft
