#include "io/samples.h"

#include <cstdlib>
#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <unistd.h>

namespace graft::io {
namespace fs = std::filesystem;

TemporaryFolder::TemporaryFolder() {
  std::string name = (fs::temp_directory_path() / "graft-io-XXXXXX").string();
  path_ = ::mkdtemp(name.data());
}
TemporaryFolder::~TemporaryFolder() { fs::remove_all(path_); }

bool run_oracle(const std::string& arguments) {
  const std::string command =
      fmt::format("KERAS_BACKEND=torch TF_CPP_MIN_LOG_LEVEL=3 '{}' -W ignore '{}/tests/io/write_samples.py' {}",
                  std::getenv("GRAFT_ORACLE_PYTHON"), GRAFT_SOURCE_DIR, arguments);
  return std::system(command.c_str()) == 0;
}

std::optional<fs::path> oracle_samples() {
  if (std::getenv("GRAFT_ORACLE_PYTHON") == nullptr) return std::nullopt;
  static const fs::path folder = [] {
    const fs::path path = fs::path(GRAFT_BINARY_DIR) / "tests/io/samples";
    fs::remove_all(path);
    if (!run_oracle(fmt::format("'{}'", path.string()))) throw std::runtime_error("write_samples.py failed");
    return path;
  }();
  return folder;
}

std::string read_text(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

void write_text(const fs::path& path, std::string_view text) { std::ofstream(path, std::ios::binary) << text; }

Tensor counting(DType dtype) {
  const Tensor integers = Tensor::from<std::int64_t>({2, 3}, {-2, -1, 0, 1, 2, 3});
  return dtype == DType::u8 ? Tensor::from<std::uint8_t>({2, 3}, {254, 255, 0, 1, 2, 3}) : integers.to(dtype);
}

}  // namespace graft::io
