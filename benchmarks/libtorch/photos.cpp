#include "photos.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>

#include <ATen/Parallel.h>
#include <c10/util/ParallelGuard.h>
#include <turbojpeg.h>

namespace peer {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> sorted(const fs::path& folder) {
  std::vector<fs::path> entries{fs::directory_iterator(folder), fs::directory_iterator()};
  std::sort(entries.begin(), entries.end());
  return entries;
}

// u8 [H, W, 3]
at::Tensor decode(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  const auto* jpeg = reinterpret_cast<const unsigned char*>(bytes.data());
  const std::unique_ptr<void, decltype(&tjDestroy)> decoder(tjInitDecompress(), tjDestroy);
  int width = 0, height = 0, subsampling = 0, colours = 0;
  if (tjDecompressHeader3(decoder.get(), jpeg, bytes.size(), &width, &height, &subsampling, &colours) != 0)
    throw std::runtime_error(file + ": " + tjGetErrorStr2(decoder.get()));
  at::Tensor pixels = at::empty({height, width, 3}, at::kByte);
  if (tjDecompress2(decoder.get(), jpeg, bytes.size(), pixels.data_ptr<std::uint8_t>(), width, 0, height, TJPF_RGB,
                    TJFLAG_ACCURATEDCT) != 0)
    throw std::runtime_error(file + ": " + tjGetErrorStr2(decoder.get()));
  return pixels;
}

}  // namespace

Preprocessing::Preprocessing(const nlohmann::json& json)
    : size_{json.at("height"), json.at("width")},
      bgr_(json.at("bgr")),
      mean_(at::tensor(json.at("mean").get<std::vector<float>>())),
      divisor_(at::tensor(json.at("divisor").get<std::vector<float>>())) {
  const std::string resampling = json.at("resampling"), fit = json.at("fit");
  if (resampling != "antialias" || fit != "squash")
    throw std::runtime_error("LibTorch's side resizes with 'antialias' and 'squash', not '" + resampling + "' and '" +
                             fit + "'");
}

at::Tensor Preprocessing::read(const std::string& file) const {
  const at::Tensor photo = decode(file).permute({2, 0, 1}).unsqueeze(0);
  return at::_upsample_bilinear2d_aa(photo, size_, /*align_corners=*/false).squeeze(0).permute({1, 2, 0}).contiguous();
}

at::Tensor Preprocessing::prepare(const at::Tensor& photos) const {
  const at::Tensor ordered = bgr_ ? photos.flip(3) : photos;
  return ordered.to(at::kFloat).sub_(mean_).div_(divisor_).permute({0, 3, 1, 2});
}

Photos::Photos(const std::string& folder, Preprocessing preprocessing) : preprocessing_(std::move(preprocessing)) {
  for (const fs::path& photos : sorted(folder)) {
    for (const fs::path& file : sorted(photos)) {
      files_.push_back(file.string());
      labels_.push_back(classes_);
    }
    ++classes_;
  }
  if (files_.empty()) throw std::runtime_error(folder + " holds no photos");
}

// Called by the DataLoader's workers, which are enough threads: the resize must not start more.
torch::data::Example<> Photos::get(std::size_t index) {
  const c10::ParallelGuard alone(true);
  return {preprocessing_.read(files_[index]), at::scalar_tensor(labels_[index], at::kLong)};
}

at::Tensor Photos::read_all() {
  std::vector<at::Tensor> photos(files_.size());
  at::parallel_for(0, static_cast<std::int64_t>(files_.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto at = static_cast<std::size_t>(i);
      photos[at] = preprocessing_.read(files_[at]);
    }
  });
  return at::stack(photos);
}

}  // namespace peer
