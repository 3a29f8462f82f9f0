#include "graft/data/folder.h"

#include <algorithm>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "graft/data/split.h"

#include "data/support.h"
#include "support/expect.h"

namespace graft::data {
namespace {

TEST(ImageFolder, ListsClassesAndPhotosSorted) {
  const TemporaryFolder folder;
  for (const char* file : {"roses/b.JPG", "roses/a.jpeg", "roses/notes.txt", "daisies/deep/er/z.PNG", "daisies/y.bmp",
                           "daisies/.hidden.jpg", ".git/x.jpg", "README.md"}) {
    folder.write(file, "x");
  }
  const ImageFolder photos = read_image_folder(folder.path());
  EXPECT_EQ(photos.classes, (std::vector<std::string>{"daisies", "roses"}));
  EXPECT_EQ(photos.labels, (std::vector<Index>{0, 0, 1, 1}));
  std::vector<std::string> names;
  for (const auto& file : photos.files) names.push_back(file.filename().string());
  EXPECT_EQ(names, (std::vector<std::string>{"z.PNG", "y.bmp", "a.jpeg", "b.JPG"}));
  EXPECT_EQ(photos.ignored, 2);
  EXPECT_EQ(photos_below(folder.path()), photos.files);
}

TEST(ImageFolder, SelectKeepsClasses) {
  ImageFolder photos;
  photos.classes = {"a", "b"};
  photos.files = {"0", "1", "2"};
  photos.labels = {0, 0, 1};
  const ImageFolder chosen = photos.select(std::vector<Index>{2, 0});
  EXPECT_EQ(chosen.files, (std::vector<std::filesystem::path>{"2", "0"}));
  EXPECT_EQ(chosen.labels, (std::vector<Index>{1, 0}));
  EXPECT_EQ(chosen.classes.size(), 2u);
  EXPECT_ERROR(photos.select(std::vector<Index>{3}), "expected a photo from 0 to 2, got 3");
}

TEST(ImageFolder, NamesWhatIsMissing) {
  const TemporaryFolder folder;
  EXPECT_ERROR(read_image_folder(folder.path() / "none"), "none: no such directory");
  EXPECT_ERROR(read_image_folder(folder.write("file", "x")), "file: expected a directory, got a file");
  EXPECT_ERROR(read_image_folder(folder.path()), "expected a folder for each class, got none");
  folder.write("full/a.jpg", "x");
  folder.write("empty/a.txt", "x");
  EXPECT_ERROR(read_image_folder(folder.path()), "of the class 'empty', got none and 1 other files");
  folder.write("caf\xe9/a.jpg", "x");
  EXPECT_ERROR(read_image_folder(folder.path()), "caf\xe9: expected the name of a class in UTF-8, got other bytes");
}

TEST(LabelledPhotos, AreReadFromJson) {
  const TemporaryFolder folder;
  folder.write("b.jpg", "x");
  folder.write("a.jpg", "x");
  const auto photos = read_labelled_photos(folder.path(), folder.write("labels.json", R"({"b.jpg": 7, "a.jpg": 900})"));
  EXPECT_EQ(photos.labels, (std::vector<Index>{900, 7}));
  EXPECT_EQ(photos.files[0].filename(), "a.jpg");
}

TEST(LabelledPhotos, NamesWhatIsWrong) {
  const TemporaryFolder folder;
  const auto read = [&](const std::string& json) {
    return read_labelled_photos(folder.path(), folder.write("labels.json", json));
  };
  EXPECT_ERROR(read_labelled_photos(folder.path(), folder.path() / "none.json"), "none.json: cannot be read");
  EXPECT_ERROR(read("{"), "class number}, got no JSON");
  EXPECT_ERROR(read("[]"), "got nothing in it");
  EXPECT_ERROR(read("[1]"), "got array");
  EXPECT_ERROR(read("{}"), "got nothing in it");
  EXPECT_ERROR(read(R"({"a.jpg": "cat"})"), "expected a class number for 'a.jpg', got \"cat\"");
  EXPECT_ERROR(read(R"({"a.jpg": -1})"), "got -1");
  EXPECT_ERROR(read(R"({"a.jpg": 1})"), "names 'a.jpg', which is not in");
}

std::vector<Index> labels_of(std::initializer_list<Index> counts) {
  std::vector<Index> labels;
  Index label = 0;
  for (const Index count : counts) labels.insert(labels.end(), static_cast<std::size_t>(count), label++);
  return labels;
}

TEST(StratifiedSplit, TakesAFractionOfEachClass) {
  const auto labels = labels_of({50, 10, 3, 2, 1});
  const Split split = stratified_split(labels, 0.2, 5);
  std::map<Index, Index> held_out;
  for (const Index i : split.validation) ++held_out[labels[static_cast<std::size_t>(i)]];
  EXPECT_EQ(held_out, (std::map<Index, Index>{{0, 10}, {1, 2}, {2, 1}, {3, 1}}));
  std::set<Index> all(split.train.begin(), split.train.end());
  all.insert(split.validation.begin(), split.validation.end());
  EXPECT_EQ(all.size(), labels.size());
  EXPECT_EQ(split.train.size() + split.validation.size(), labels.size());
}

TEST(StratifiedSplit, DependsOnTheSeedAlone) {
  const auto labels = labels_of({40, 40});
  EXPECT_EQ(stratified_split(labels, 0.25, 1).validation, stratified_split(labels, 0.25, 1).validation);
  EXPECT_NE(stratified_split(labels, 0.25, 1).validation, stratified_split(labels, 0.25, 2).validation);
  EXPECT_ERROR(stratified_split(labels, 1, 0), "[split] expected a fraction between 0 and 1, got 1");
}

TEST(StratifiedFolds, PartitionEvenlyByClass) {
  const auto labels = labels_of({35, 26, 18, 24, 9, 11, 59});
  const auto folds = stratified_folds(labels, 5, 3);
  std::vector<int> seen(labels.size());
  for (const Split& fold : folds) {
    EXPECT_EQ(fold.train.size() + fold.validation.size(), labels.size());
    EXPECT_LE(std::abs(static_cast<int>(fold.validation.size()) - 182 / 5), 1);
    std::map<Index, int> of_class;
    for (const Index i : fold.validation) {
      ++seen[static_cast<std::size_t>(i)];
      ++of_class[labels[static_cast<std::size_t>(i)]];
    }
    for (const auto& [label, count] : of_class) {
      const auto members = std::count(labels.begin(), labels.end(), label);
      EXPECT_GE(count, members / 5);
      EXPECT_LE(count, members / 5 + 1);
    }
  }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), 182);
  EXPECT_ERROR(stratified_folds(labels, 1, 0), "[split] expected 2 to 182 folds, got 1");
}

}  // namespace
}  // namespace graft::data
