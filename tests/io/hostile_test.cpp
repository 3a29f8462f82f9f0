// Every format, cut off and with flipped bytes: reading must end in a valid result or in a graft::Error, never in a
// crash, another exception or a large allocation.
#include <functional>
#include <random>

#include "graft/io/npy.h"
#include "graft/io/safetensors.h"
#include "graft/io/weight_file.h"

#include "io/samples.h"
#include "support/expect.h"

namespace graft::io {
namespace {

using Reader = std::function<void(const std::filesystem::path&)>;

void read_any(const std::filesystem::path& path) { static_cast<void>(read_weights(path)); }

// Counts how often reading was refused.
int refusals(const Reader& read, const std::filesystem::path& path, const std::vector<std::string>& contents) {
  int refused = 0;
  for (const std::string& content : contents) {
    std::filesystem::remove(path);  // ext4 flushes a file that is cut and written again, a new one it does not
    write_text(path, content);
    try {
      read(path);
    } catch (const Error&) {
      ++refused;
    }
  }
  return refused;
}

std::vector<std::string> cut(const std::string& whole, std::size_t count) {
  std::vector<std::string> contents;
  for (std::size_t i = 0; i < count; ++i) contents.push_back(whole.substr(0, whole.size() * i / count));
  return contents;
}

std::vector<std::string> flipped(const std::string& whole, std::size_t count) {
  std::mt19937 random(1);
  std::vector<std::string> contents(count, whole);
  for (std::string& content : contents) {
    for (int k = std::uniform_int_distribution(1, 3)(random); k > 0; --k) {
      auto& byte = content[std::uniform_int_distribution<std::size_t>(0, whole.size() - 1)(random)];
      byte = static_cast<char>(std::uniform_int_distribution(0, 255)(random));
    }
  }
  return contents;
}

TEST(Hostile, OwnFormats) {
  const TemporaryFolder folder;
  write_npy(folder / "a.npy", counting(DType::f32));
  write_safetensors(folder / "a.safetensors",
                    {{{"a", counting(DType::f32)}, {"b", counting(DType::u8)}}, {{"key", "value"}}});
  const Reader read_array = [](const auto& path) { static_cast<void>(read_npy(path)); };
  const Reader read_tensors = [](const auto& path) { static_cast<void>(read_safetensors(path)); };
  for (const auto& [file, read] :
       {std::pair(folder / "a.npy", read_array), std::pair(folder / "a.safetensors", read_tensors)}) {
    const std::string whole = read_text(file);
    EXPECT_EQ(refusals(read, folder / "damaged", cut(whole, whole.size())), static_cast<int>(whole.size())) << file;
    EXPECT_GT(refusals(read, folder / "damaged", flipped(whole, 2000)), 200) << file;
  }
}

TEST(Hostile, ForeignFormats) {
  const auto samples = oracle_samples();
  GRAFT_SKIP_WITHOUT_ORACLE(samples);
  const TemporaryFolder folder;
  for (const char* file :
       {"legacy_keras1_fixed.h5", "legacy_keras3_varying.h5", "legacy_latest.h5", "legacy_compressed.h5",
        "v3_attributes.weights.h5", "keras_sequential.h5", "keras_sequential.keras", "keras_sequential_unnamed.keras",
        "torch_odd_zip.pth", "torch_odd_stream.pth", "torch_protocol4_stream.pth", "python.safetensors"}) {
    SCOPED_TRACE(file);
    const std::string whole = read_text(*samples / file);
    EXPECT_EQ(refusals(read_any, folder / "damaged", cut(whole, 200)), 200);
    EXPECT_GT(refusals(read_any, folder / "damaged", flipped(whole, 1000)), 10);
    EXPECT_LT(memory_use().peak, std::size_t{1} << 28);
  }
}

}  // namespace
}  // namespace graft::io
