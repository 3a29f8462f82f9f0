#include <algorithm>
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "graft/data/image.h"
#include "graft/data/resize.h"

#include "data/support.h"
#include "support/expect.h"

namespace graft::data {
namespace {

namespace fs = std::filesystem;

// Real photos, where the fixtures lie beside the project.
std::vector<fs::path> real_photos(std::size_t most) {
  const fs::path folder = fs::path(GRAFT_SOURCE_DIR) / "../shared/fixtures/imagenet";
  std::set<fs::path> photos;
  if (fs::is_directory(folder)) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() == ".JPEG") photos.insert(entry.path());
    }
  }
  std::vector<fs::path> chosen(photos.begin(), photos.end());
  chosen.resize(std::min(chosen.size(), most));
  return chosen;
}

// Runs pil_oracle.py once for all tests here.
class Pil : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* python = std::getenv("GRAFT_ORACLE_PYTHON");
    if (python == nullptr || *python == '\0') return;
    folder_ = new TemporaryFolder;
    std::string command = "'" + std::string(python) + "' '" GRAFT_SOURCE_DIR "/tests/data/pil_oracle.py' '" +
                          folder_->path().string() + "'";
    for (const auto& photo : real_photos(12)) command += " '" + photo.string() + "'";
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
    std::ifstream stream(folder_->path() / "cases.json");
    cases_ = nlohmann::json::parse(stream);
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  void SetUp() override {
    if (folder_ == nullptr) GTEST_SKIP() << "GRAFT_ORACLE_PYTHON is not set: no PIL to compare with";
  }

  static Tensor load(const nlohmann::json& array) {
    const auto extents = array["shape"].get<std::vector<Index>>();
    Tensor tensor = Tensor::empty(Shape(extents), dtype_from_name(array["dtype"].get<std::string>()));
    std::ifstream(folder_->path() / array["file"].get<std::string>(), std::ios::binary)
        .read(static_cast<char*>(tensor.raw()), static_cast<std::streamsize>(tensor.bytes()));
    return tensor;
  }

  static inline TemporaryFolder* folder_ = nullptr;
  static inline nlohmann::json cases_;
};

TEST_F(Pil, DecodesTheSamePixels) {
  ASSERT_GT(cases_["decode"].size(), 30u);
  for (const auto& c : cases_["decode"]) {
    const auto file = c["file"].get<std::string>();
    // stb_image rounds its colour conversion and interpolates subsampled colour in its own way.
    const bool exact = GRAFT_HAS_TURBOJPEG || file.ends_with(".png") || file.ends_with(".bmp");
    EXPECT_LE(largest_difference(decode_image(folder_->path() / file), load(c["expected"])), exact ? 0 : 60) << file;
  }
}

// Palettes, 16 bits, progressive scans, restarts and the rest, which graft itself does not write.
TEST_F(Pil, SurvivesChangedBytesInEveryKindOfFile) {
  for (const auto& c : cases_["decode"]) {
    const fs::path file = folder_->path() / c["file"].get<std::string>();
    std::vector<std::byte> bytes(fs::file_size(file));
    std::ifstream(file, std::ios::binary)
        .read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (bytes.size() > 20000) continue;  // the real photos: slow, and of no other kind
    EXPECT_GT(decode_changed(bytes, 1 + bytes.size() / 300), 0) << file;
  }
}

TEST_F(Pil, ResizesToTheSamePixels) {
  ASSERT_GT(cases_["resize"].size(), 150u);
  for (const auto& c : cases_["resize"]) {
    const auto background = c["background"].get<std::vector<std::uint8_t>>();
    const Tensor resized =
        resize(load(c["source"]), c["height"].get<Index>(), c["width"].get<Index>(),
               resampling_from_name(c["resampling"].get<std::string>()), fit_from_name(c["fit"].get<std::string>()),
               {background[0], background[1], background[2]});
    EXPECT_LE(largest_difference(resized, load(c["expected"])), c["tolerance"].get<double>())
        << c["what"].get<std::string>() << ", " << c["resampling"].get<std::string>();
  }
}

TEST(RealPhotos, AreReadWhereTheyAre) {
  const auto photos = real_photos(1000);
  if (photos.empty()) GTEST_SKIP() << "no photos in ../shared/fixtures/imagenet";
  for (const auto& photo : photos) {
    const Tensor image = decode_image(photo);
    EXPECT_GT(image.shape()[0], 50) << photo;
    EXPECT_EQ(resize(image, 64, 64, Resampling::antialias).shape(), (Shape{64, 64, 3}));
  }
}

}  // namespace
}  // namespace graft::data
