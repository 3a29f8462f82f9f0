#include "core/choices.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

namespace graft {
namespace {

TEST(Choices, AreFoundAgainAndADamagedFileHoldsNone) {
  const auto file = std::filesystem::path(testing::TempDir()) / "library-choices" / "choices.json";
  std::filesystem::remove_all(file.parent_path());
  Choices(file).keep("a GPU, cuDNN 9", "a call", "eng1");
  Choices second(file);
  EXPECT_EQ(second.find("a GPU, cuDNN 9", "a call"), "eng1");
  EXPECT_EQ(second.find("another GPU", "a call"), std::nullopt);
  second.keep("another GPU", "a call", "eng2");
  EXPECT_EQ(Choices(file).find("a GPU, cuDNN 9", "a call"), "eng1");
  std::ofstream(file) << "{\"a GPU, cuDNN 9\": {\"a call\": ";
  EXPECT_EQ(Choices(file).find("a GPU, cuDNN 9", "a call"), std::nullopt);
}

}  // namespace
}  // namespace graft
