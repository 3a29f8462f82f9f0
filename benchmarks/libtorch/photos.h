// Photos in a folder for each class, read as an expert reads them for LibTorch: libjpeg-turbo decodes, LibTorch's own
// resize for bytes makes them the network's size.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>
#include <torch/data/datasets.h>
#include <torch/data/example.h>

namespace peer {

// What a network expects of a photo, from its file.
class Preprocessing {
 public:
  // Throws for a way of resizing that LibTorch does not have.
  explicit Preprocessing(const nlohmann::json& json);

  // A JPEG as u8 [H, W, 3].
  at::Tensor read(const std::string& file) const;
  // u8 [N, H, W, 3] -> the network's input, [N, 3, H, W] in channels_last.
  at::Tensor prepare(const at::Tensor& photos) const;

 private:
  std::array<std::int64_t, 2> size_;
  bool bgr_;
  at::Tensor mean_, divisor_;
};

// A photo and its label at a time, for LibTorch's DataLoader.
class Photos : public torch::data::datasets::Dataset<Photos> {
 public:
  // Classes and photos by name.
  Photos(const std::string& folder, Preprocessing preprocessing);

  torch::data::Example<> get(std::size_t index) override;
  std::optional<std::size_t> size() const override { return files_.size(); }
  std::int64_t classes() const { return classes_; }

  // All of them, u8 [N, H, W, 3], read by as many threads as LibTorch has.
  at::Tensor read_all();
  at::Tensor labels() const { return at::tensor(labels_); }

 private:
  Preprocessing preprocessing_;
  std::vector<std::string> files_;
  std::vector<std::int64_t> labels_;
  std::int64_t classes_ = 0;
};

}  // namespace peer
