#include <filesystem>
#include <fstream>
#include <set>

#include <gtest/gtest.h>

#include "kernels/registry.h"

namespace graft {
namespace {

// "conv2d cuda" and so on.
std::set<std::string> listed() {
  std::ifstream file(GRAFT_SOURCE_DIR "/tests/kernels/library_kernels.txt");
  EXPECT_TRUE(file) << "tests/kernels/library_kernels.txt cannot be read";
  std::set<std::string> found;
  for (std::string line; std::getline(file, line);) {
    line = line.substr(0, line.find('#'));
    if (!line.empty()) {
      EXPECT_TRUE(found.insert(line).second) << "listed twice: " << line;
    }
  }
  return found;
}

// Neither may an entry be lost, nor may one stay unknown to whoever reads the list.
TEST(Contract, TheLibrariesComputeWhatIsListed) {
  const kernels::Built built = kernels::built();
  std::set<std::string> expected = listed(), found;
  for (const kernels::Entry& entry : kernels::all()) {
    if (entry.cpu.library) found.insert(std::string(entry.name) + " cpu");
    if (entry.cuda.library) found.insert(std::string(entry.name) + " cuda");
  }
  std::erase_if(expected, [&](const std::string& line) {
    return (!built.onednn && line.ends_with(" cpu")) || (!built.cudnn && line.ends_with(" cuda"));
  });
  EXPECT_EQ(found, expected);
}

TEST(Contract, GraftItselfHasEveryKernelOnEveryDevice) {
  const kernels::Built built = kernels::built();
  for (const kernels::Entry& entry : kernels::all()) {
    EXPECT_TRUE(entry.cpu.native) << entry.name;
    EXPECT_EQ(entry.cuda.native, built.cuda) << entry.name;
    EXPECT_EQ(entry.emulated.native, built.emulated) << entry.name;
  }
}

// A table that the registry does not name would not be looked at.
TEST(Contract, EveryTableIsRegistered) {
  std::size_t tables = 0;
  std::set<std::string_view> names;
  for (const kernels::Entry& entry : kernels::all())
    EXPECT_TRUE(names.insert(entry.name).second) << "two kernels named " << entry.name;
  for (const auto& file : std::filesystem::directory_iterator(GRAFT_SOURCE_DIR "/src/kernels")) {
    std::ifstream stream(file.path());
    for (std::string line; std::getline(stream, line);) tables += line.starts_with("inline constexpr Kernel<") ? 1 : 0;
  }
  EXPECT_EQ(tables, names.size());
}

}  // namespace
}  // namespace graft
