#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "kernels/registry.h"

namespace graft {
namespace {

std::set<std::string> listed_gaps() {
  std::ifstream file(GRAFT_SOURCE_DIR "/tests/kernels/known_gaps.txt");
  EXPECT_TRUE(file) << "tests/kernels/known_gaps.txt cannot be read";
  std::set<std::string> gaps;
  for (std::string line; std::getline(file, line);) {
    line = line.substr(0, line.find('#'));
    std::istringstream words(line);
    std::string op, device, engine;
    if (words >> op >> device >> engine) {
      op.append(" ").append(device).append(" ").append(engine);
      EXPECT_TRUE(gaps.insert(op).second) << "listed twice: " << line;
    }
  }
  return gaps;
}

// What this build has not at all counts neither as a gap nor as closed.
void erase_unbuilt(std::set<std::string>& gaps) {
  const kernels::Built built = kernels::built();
  std::erase_if(gaps, [&](const std::string& gap) {
    return (!built.onednn && gap.ends_with(" cpu library")) || (!built.cudnn && gap.ends_with(" cuda library")) ||
           (!built.cuda && !built.emulated && gap.ends_with(" cuda native"));
  });
}

// A new gap fails until somebody adds it to the list, and a closed one until it is taken off. The emulated device runs
// the sources of cuda, so that a gap there is a gap here.
TEST(KnownGaps, AreExactlyTheNullsOfTheTables) {
  const kernels::Built built = kernels::built();
  std::set<std::string> gaps = listed_gaps(), nulls;
  for (const kernels::Entry& entry : kernels::all()) {
    const std::string name(entry.name);
    if (!entry.cpu.native) nulls.insert(name + " cpu native");
    if (!entry.cpu.library) nulls.insert(name + " cpu library");
    if (!entry.cuda.library) nulls.insert(name + " cuda library");
    if (built.cuda ? !entry.cuda.native : !entry.emulated.native) nulls.insert(name + " cuda native");
    if (built.cuda && built.emulated) {
      EXPECT_EQ(entry.cuda.native, entry.emulated.native) << name;
    }
  }
  erase_unbuilt(gaps);
  erase_unbuilt(nulls);
  for (const std::string& null : nulls) EXPECT_TRUE(gaps.contains(null)) << "a new gap: " << null;
  for (const std::string& gap : gaps) EXPECT_TRUE(nulls.contains(gap)) << "closed, take it off the list: " << gap;
}

TEST(KnownGaps, GraftItselfHasEveryKernel) {
  for (const kernels::Entry& entry : kernels::all()) EXPECT_TRUE(entry.cpu.native) << entry.name;
}

// A table that the registry does not name would hide its gaps.
TEST(KnownGaps, EveryTableIsRegistered) {
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
