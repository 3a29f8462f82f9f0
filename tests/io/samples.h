#pragma once

#include <cstring>
#include <filesystem>
#include <optional>
#include <string>

#include "graft/core/tensor.h"
#include "graft/io/file.h"

namespace graft::io {

/// A folder that is new and empty, and removed again with its content.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// The folder that write_samples.py fills, once a run. Nothing where GRAFT_ORACLE_PYTHON does not name a Python with
/// keras, torch, h5py and safetensors.
std::optional<std::filesystem::path> oracle_samples();
/// Runs write_samples.py with arguments; true if it succeeds. GRAFT_ORACLE_PYTHON must be set.
bool run_oracle(const std::string& arguments);

std::string read_text(const std::filesystem::path& path);
void write_text(const std::filesystem::path& path, std::string_view text);

/// A [2, 3] tensor of -2, -1, 0, 1, 2, 3 converted to the type; u8 wraps around.
Tensor counting(DType dtype);

/// The elements as bytes.
inline std::string bytes_of(const Tensor& tensor) { return {static_cast<const char*>(tensor.raw()), tensor.bytes()}; }

}  // namespace graft::io

#define GRAFT_SKIP_WITHOUT_ORACLE(samples) \
  if (!(samples)) GTEST_SKIP() << "set GRAFT_ORACLE_PYTHON to a Python with keras, torch, h5py and safetensors"
