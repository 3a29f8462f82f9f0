#include "graft/data/loader.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "graft/data/image.h"
#include "graft/data/preprocess.h"
#include "graft/ops/preprocess.h"

#include "data/support.h"
#include "support/expect.h"

namespace graft::data {
namespace {

constexpr int kSize = 12;

// Eleven photos of two classes on disk.
class LoaderTest : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 11; ++i) {
      const Tensor image = picture(20 + i, 30 - i, 3, static_cast<std::uint64_t>(i));
      folder_.write((i < 5 ? "a/" : "b/") + std::to_string(10 + i) + ".png", encode_png(image));
    }
    photos_ = read_image_folder(folder_.path());
    options_.preprocessing = tf_preprocessing(kSize);
    options_.batch = 4;
    options_.seed = 3;
  }

  static std::vector<Batch> epoch(Loader& loader, std::uint64_t number) {
    std::vector<Batch> batches;
    loader.start_epoch(number);
    while (auto batch = loader.next()) batches.push_back(std::move(*batch));
    return batches;
  }

  static void expect_equal(const std::vector<Batch>& a, const std::vector<Batch>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].indices, b[i].indices);
      EXPECT_EQ(largest_difference(a[i].images, b[i].images), 0);
      EXPECT_EQ(largest_difference(a[i].labels, b[i].labels), 0);
    }
  }

  TemporaryFolder folder_;
  ImageFolder photos_;
  LoaderOptions options_;
};

TEST_F(LoaderTest, GivesEveryPhotoOnceAnEpochPreprocessed) {
  Loader loader(photos_, options_);
  EXPECT_EQ(loader.batches(), 3);
  EXPECT_FALSE(loader.next().has_value());
  std::set<Index> seen;
  std::vector<Index> sizes;
  for (const Batch& batch : epoch(loader, 0)) {
    sizes.push_back(batch.images.shape()[0]);
    ASSERT_EQ(batch.labels.shape()[0], batch.images.shape()[0]);
    for (std::size_t row = 0; row < batch.indices.size(); ++row) {
      const auto photo = static_cast<std::size_t>(batch.indices[row]);
      seen.insert(batch.indices[row]);
      EXPECT_EQ(batch.labels.data<std::int64_t>()[row], photos_.labels[photo]);
      const Tensor expected = preprocess(decode_image(photos_.files[photo]), options_.preprocessing);
      EXPECT_EQ(largest_difference(batch.images.rows(static_cast<Index>(row), 1).reshaped({kSize, kSize, 3}), expected),
                0);
    }
  }
  EXPECT_EQ(sizes, (std::vector<Index>{4, 4, 3}));
  EXPECT_EQ(seen.size(), 11u);
  EXPECT_FALSE(loader.next().has_value());
}

TEST_F(LoaderTest, TheSameSeedGivesTheSameBatchesWhateverTheWorkers) {
  options_.augmentation = Augmentation::parse("flip,rotate=20,zoom=0.2,brightness=0.2,contrast=0.2");
  options_.workers = 1;
  Loader one(photos_, options_);
  const auto first = epoch(one, 0), second = epoch(one, 1);
  for (const auto& [workers, prefetch, cache] :
       {std::tuple<int, Index, std::size_t>{5, 1, 0}, {3, 7, 1000}, {2, 2, 1u << 20}}) {
    options_.workers = workers;
    options_.prefetch = prefetch;
    options_.cache_bytes = cache;
    Loader many(photos_, options_);
    expect_equal(epoch(many, 1), second);
    expect_equal(epoch(many, 0), first);
  }
  EXPECT_NE(first[0].indices, second[0].indices);
  options_.seed = 4;
  Loader other(photos_, options_);
  EXPECT_NE(epoch(other, 0)[0].indices, first[0].indices);
}

TEST_F(LoaderTest, VersionsOfPhotosComeAgainInTurn) {
  options_.augmentation = Augmentation::parse("flip,rotate=20,brightness=0.2");
  options_.shuffle = false;
  Loader anew(photos_, options_);
  options_.views = 2;
  Loader versions(photos_, options_);
  for (const std::uint64_t number : {0u, 1u, 2u, 5u}) expect_equal(epoch(versions, number), epoch(anew, number % 2));
}

TEST_F(LoaderTest, WithoutShufflingKeepsTheOrder) {
  options_.shuffle = false;
  Loader loader(photos_, options_);
  Index expected = 0;
  for (const Batch& batch : epoch(loader, 5)) {
    for (const Index i : batch.indices) EXPECT_EQ(i, expected++);
  }
}

TEST_F(LoaderTest, KeepsDecodedPhotosWithinItsBound) {
  constexpr std::size_t kPhotoBytes = kSize * kSize * 3;
  options_.cache_bytes = 3 * kPhotoBytes + 10;
  Loader some(photos_, options_);
  epoch(some, 0);
  EXPECT_EQ(some.cached_bytes(), 3 * kPhotoBytes);
  options_.cache_bytes = 1 << 20;
  Loader all(photos_, options_);
  const auto before = epoch(all, 0);
  EXPECT_EQ(all.cached_bytes(), 11 * kPhotoBytes);
  for (const auto& file : photos_.files) std::filesystem::remove(file);
  expect_equal(epoch(all, 0), before);
}

// They are the bytes that the rest of preprocessing makes the same numbers of.
TEST_F(LoaderTest, KeepsBytesWhereNothingNeedsFloats) {
  Loader normalising(photos_, options_);
  const auto want = epoch(normalising, 0);
  options_.keep_bytes = true;
  Loader keeping(photos_, options_);
  const auto got = epoch(keeping, 0);
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].images.dtype(), DType::u8);
    EXPECT_EQ(got[i].indices, want[i].indices);
    EXPECT_EQ(largest_difference(ops::preprocess(got[i].images, options_.preprocessing), want[i].images), 0);
  }
  options_.augmentation = Augmentation::parse("flip");
  Loader augmenting(photos_, options_);
  EXPECT_EQ(epoch(augmenting, 0)[0].images.dtype(), DType::f32);
  options_.augmentation = {};
  options_.preprocessing.resampling = Resampling::bilinear;
  Loader interpolating(photos_, options_);
  EXPECT_EQ(epoch(interpolating, 0)[0].images.dtype(), DType::f32);
}

TEST_F(LoaderTest, NamesAPhotoThatCannotBeRead) {
  folder_.write("b/17.png", "no image at all");
  options_.shuffle = false;
  for (const int workers : {1, 4}) {
    options_.workers = workers;
    Loader loader(photos_, options_);
    loader.start_epoch(0);
    EXPECT_EQ(loader.next()->indices, (std::vector<Index>{0, 1, 2, 3}));
    EXPECT_ERROR(loader.next(), "17.png: expected a JPEG, PNG or BMP image");
    EXPECT_FALSE(loader.next().has_value());
    loader.start_epoch(1);
    EXPECT_TRUE(loader.next().has_value());
  }
}

TEST_F(LoaderTest, ReportsTheFirstOfSeveralBadPhotos) {
  for (const char* file : {"a/11.png", "a/12.png", "a/13.png"}) folder_.write(file, "bad");
  options_.shuffle = false;
  options_.workers = 4;
  for (int i = 0; i < 20; ++i) {
    Loader loader(photos_, options_);
    loader.start_epoch(0);
    EXPECT_ERROR(loader.next(), "11.png");
  }
}

TEST_F(LoaderTest, MayBeRestartedAndDestroyedAtAnyTime) {
  options_.workers = 3;
  Loader whole(photos_, options_);
  const auto expected = epoch(whole, 1);
  for (int taken = 0; taken < 4; ++taken) {
    Loader loader(photos_, options_);
    loader.start_epoch(0);
    for (int i = 0; i < taken; ++i) loader.next();
    if (taken % 2 == 0) expect_equal(epoch(loader, 1), expected);
    loader.start_epoch(2);
  }
  const Loader never_started(photos_, options_);
}

TEST_F(LoaderTest, RefusesOptionsThatMakeNoSense) {
  EXPECT_ERROR(Loader(ImageFolder(), options_), "[loader] expected photos, got none");
  options_.batch = 0;
  EXPECT_ERROR(Loader(photos_, options_), "of at least 0, got 0, 4 and 0");
}

}  // namespace
}  // namespace graft::data
