#include "graft/io/file.h"

#include <csignal>

#include <sys/resource.h>

#include "io/samples.h"
#include "support/expect.h"

namespace graft::io {
namespace {
namespace fs = std::filesystem;

std::size_t files_in(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(InputFile, ReadsAnywhereAndNothingBeyondTheEnd) {
  const TemporaryFolder folder;
  write_text(folder / "a", "0123456789");
  const InputFile file(folder / "a");
  EXPECT_EQ(file.size(), 10u);
  EXPECT_EQ(static_cast<char>(file.read(7, 3)[0]), '7');
  EXPECT_ERROR(file.read(8, 3), "3 bytes at byte 8 lie beyond the end, the file has 10");
  EXPECT_ERROR(file.read(~std::uint64_t{0}, 2), "lie beyond the end");
  EXPECT_ERROR(file.read(1, ~std::uint64_t{0}), "lie beyond the end");
  fs::resize_file(folder / "a", 4);
  EXPECT_ERROR(file.read(2, 5), "became shorter while it was read, nothing left at byte 4");
}

TEST(InputFile, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  EXPECT_ERROR(InputFile(folder / "absent"), "cannot be opened: No such file");
  EXPECT_ERROR(InputFile(folder.path()), "expected a regular file");
  EXPECT_ERROR(InputFile("/dev/zero"), "expected a regular file");
}

TEST(WriteFileAtomically, ReplacesAndLeavesNothingBeside) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  write_file_atomically(folder / "a", "new");
  EXPECT_EQ(read_text(folder / "a"), "new");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(WriteFileAtomically, KeepsTheOldContentIfTheNewFails) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  const auto stop_half_way = [](OutputFile& file) {
    file.write("ne");
    throw Error("stopped");
  };
  EXPECT_ERROR(write_file_atomically(folder / "a", stop_half_way), "stopped");
  EXPECT_EQ(read_text(folder / "a"), "old");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(WriteFileAtomically, NamesTheFileWhenThereIsNoRoom) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  // A limit on the size of files fails in write() as a full disk does.
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_ERROR(write_file_atomically(folder / "a", std::string(5000, 'x')),
               (folder / "a").string() + ": 4000 bytes could not be written: File too large");
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(read_text(folder / "a"), "old");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(WriteFileAtomically, RefusesTargetsThatAreNoFiles) {
  const TemporaryFolder folder;
  EXPECT_ERROR(write_file_atomically(folder / "absent/a", "x"), "absent/a: cannot be written: No such file");
  EXPECT_ERROR(write_file_atomically(folder.path(), "x"), "exists and is not a regular file");
  EXPECT_ERROR(write_file_atomically("/dev/null", "x"), "exists and is not a regular file");
}

TEST(WriteFileAtomically, FollowsASymbolicLink) {
  const TemporaryFolder folder;
  write_text(folder / "a", "old");
  fs::create_symlink("a", folder / "link");
  write_file_atomically(folder / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(read_text(folder / "a"), "new");
}

}  // namespace
}  // namespace graft::io
