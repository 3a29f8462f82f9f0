#include "train/feature_file.h"

#include <csignal>

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "graft/io/file.h"

#include "support/expect.h"
#include "train/samples.h"

namespace graft::train {
namespace {

namespace fs = std::filesystem;

FeatureLayout layout(const std::string& facts = "facts", Index rows = 5) {
  return {.facts = facts, .values = {{"a", {{1, 2, 3}, DType::f32}}, {"b", {{1, 4}, DType::bf16}}}, .rows = rows};
}

// Row r of "a" is r * 10 + 0 ... 5, of "b" r + 0 ... 3.
std::vector<Tensor> values(Index first, Index rows) {
  std::vector<float> a, b;
  for (Index r = first; r < first + rows; ++r) {
    for (int i = 0; i < 6; ++i) a.push_back(static_cast<float>(r * 10 + i));
    for (int i = 0; i < 4; ++i) b.push_back(static_cast<float>(r + i));
  }
  return {Tensor::from({rows, 2, 3}, a), Tensor::from({rows, 4}, b).to(DType::bf16)};
}

void write(const FeatureFolder& folder, const FeatureLayout& what) {
  FeatureWriter writer(folder, what);
  for (Index first = 0; first < what.rows; first += 2) {
    std::vector<Index> rows;
    for (Index r = first; r < std::min(what.rows, first + 2); ++r) rows.push_back(r);
    writer.put(rows, values(first, static_cast<Index>(rows.size())));
  }
  writer.finish();
}

std::string bytes_of_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_bytes(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  return names;
}

TEST(FeatureFile, GivesBackTheRowsInAnyOrder) {
  const test::TemporaryFolder folder("feature_file");
  const FeatureFolder files(folder.path());
  EXPECT_FALSE(files.holds(layout()));
  write(files, layout());
  ASSERT_TRUE(files.holds(layout()));
  EXPECT_EQ(fs::file_size(files.path_of(layout())), layout().file_bytes());
  const auto store = files.open(layout());
  EXPECT_EQ(store->rows(), 5);
  const std::vector<Index> rows{4, 0, 4};
  const auto read = store->read(rows);
  EXPECT_EQ(read.at("a").shape(), (Shape{3, 2, 3}));
  EXPECT_EQ(read.at("a").values<float>()[0], 40);
  EXPECT_EQ(read.at("a").values<float>()[6], 0);
  EXPECT_EQ(read.at("a").values<float>()[17], 45);
  EXPECT_EQ(read.at("b").to(DType::f32).values<float>()[3], 7);
}

TEST(FeatureFile, IsUsedOnlyIfItIsTheOneExpected) {
  struct Row {
    std::string what;
    std::function<std::string(std::string)> damage;
    std::string error;
  };
  const std::size_t rows_at = static_cast<std::size_t>(layout().file_bytes()) - 5 * layout().row_bytes();
  const auto flip = [](std::size_t at) {
    return [at](std::string bytes) {
      bytes.at(at) = static_cast<char>(bytes.at(at) ^ 4);
      return bytes;
    };
  };
  const std::vector<Row> rows{
      {"empty", [](const std::string&) { return std::string(); }, "bytes, the file has 0"},
      {"a text", [](const std::string&) { return std::string("hello"); }, "bytes, the file has 5"},
      {"one byte short", [](const std::string& bytes) { return bytes.substr(0, bytes.size() - 1); },
       "bytes, the file has"},
      {"one byte long", [](const std::string& bytes) { return bytes + "x"; }, "bytes, the file has"},
      {"only zeros, as a reserved file is", [](const std::string& bytes) { return std::string(bytes.size(), '\0'); },
       "the header is not that of these photos"},
      {"a bit of the magic", flip(3), "the header is not that of these photos"},
      {"a bit of the header's size", flip(16), "the header is not that of these photos"},
      {"a bit of the header", flip(30), "the header is not that of these photos"},
      {"a bit of the last row", flip(rows_at + 5 * layout().row_bytes() - 1), "row 4 is damaged"},
      {"a bit of the first row", flip(rows_at), "row 0 is damaged"},
      {"two rows swapped",
       [&](std::string bytes) {
         const std::size_t row = layout().row_bytes();
         for (std::size_t i = 0; i < row; ++i) std::swap(bytes[rows_at + i], bytes[rows_at + row + i]);
         return bytes;
       },
       "row 0 is damaged"},
  };
  const test::TemporaryFolder folder("feature_damage");
  const FeatureFolder files(folder.path());
  write(files, layout());
  const std::string whole = bytes_of_file(files.path_of(layout()));
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    write_bytes(files.path_of(layout()), row.damage(whole));
    EXPECT_ERROR(files.open(layout()), row.error);
  }
  // And a file of other facts under this name.
  write(files, layout("other"));
  fs::rename(files.path_of(layout("other")), files.path_of(layout()));
  EXPECT_ERROR(files.open(layout()), "the header is not that of these photos");
  write_bytes(files.path_of(layout()), whole);
  EXPECT_EQ(files.open(layout())->rows(), 5);
}

TEST(FeatureFile, AChangeWhileItIsReadIsAnError) {
  const test::TemporaryFolder folder("feature_change");
  const FeatureFolder files(folder.path());
  write(files, layout());
  const auto store = files.open(layout());
  const std::vector<Index> last{4};
  store->read(last);
  fs::resize_file(files.path_of(layout()), layout().file_bytes() - 1);
  EXPECT_ERROR(store->read(last), "became shorter while it was read");
  fs::resize_file(files.path_of(layout()), layout().file_bytes());
  EXPECT_ERROR(store->read(last), "row 4 is damaged");
}

TEST(FeatureFile, LeavesNothingUnlessAllRowsWereWritten) {
  const test::TemporaryFolder folder("feature_partial");
  const FeatureFolder files(folder.path());
  {
    FeatureWriter writer(files, layout());
    const std::vector<Index> first{0};
    writer.put(first, values(0, 1));
    EXPECT_EQ(names_in(folder.path()).size(), 1u);
    EXPECT_FALSE(files.holds(layout()));
    EXPECT_ERROR(writer.finish(), "row 1 was never computed");
    const std::vector<Tensor> wrong{values(0, 1)[1], values(0, 1)[0]};
    EXPECT_ERROR(writer.put(first, wrong), "'a' is bf16");
  }
  EXPECT_TRUE(names_in(folder.path()).empty());
}

TEST(FeatureFile, ADiskThatIsTooSmallIsSaidAtOnce) {
  const test::TemporaryFolder folder("feature_full");
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{1024, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_ERROR(FeatureWriter(FeatureFolder(folder.path()), layout()), "bytes cannot be reserved");
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_TRUE(names_in(folder.path()).empty());
}

TEST(FeatureFolder, RemovesWhatWasLongestUnusedAndNothingInUse) {
  const test::TemporaryFolder folder("feature_room");
  const FeatureFolder files(folder.path());
  const std::uint64_t size = layout().file_bytes();
  const auto now = fs::file_time_type::clock::now();
  for (const int age : {3, 2, 1, 0}) {
    write(files, layout(std::to_string(age)));
    fs::last_write_time(files.path_of(layout(std::to_string(age))), now - std::chrono::hours(age));
  }
  write_bytes(folder.path() / "photo.jpg", std::string(100000, 'x'));                // somebody else's
  write_bytes(folder.path() / "0123.features.partial-1-0", std::string(1000, 'x'));  // its writer was killed
  std::optional<FeatureWriter> writing(std::in_place, files, layout("in work"));
  const auto reading = files.open(layout("3"));  // the oldest, but in use; and its use makes it the youngest
  files.make_room(size, 4 * size + 100);
  EXPECT_TRUE(files.holds(layout("3")));
  EXPECT_FALSE(files.holds(layout("2")));
  EXPECT_FALSE(files.holds(layout("1")));
  EXPECT_TRUE(files.holds(layout("0")));
  EXPECT_TRUE(fs::exists(folder.path() / "photo.jpg"));
  EXPECT_FALSE(fs::exists(folder.path() / "0123.features.partial-1-0"));
  writing.reset();
  files.make_room(0, 0);
  EXPECT_TRUE(files.holds(layout("3")));
  EXPECT_FALSE(files.holds(layout("0")));
}

TEST(FeatureFolder, AllowsHalfOfWhatIsFree) {
  const test::TemporaryFolder folder("feature_allowance");
  const FeatureFolder files(folder.path() / "not" / "there");
  EXPECT_EQ(files.allowance(1), 1u);
  const auto free = fs::space(fs::temp_directory_path()).available;
  const auto allowed = static_cast<double>(files.allowance(~std::uint64_t{0}));
  EXPECT_NEAR(allowed, static_cast<double>(free) / 2, 0.2 * static_cast<double>(free));
}

}  // namespace
}  // namespace graft::train
