#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graft/core/tensor.h"

namespace graft::io {

/// The content of a safetensors file (https://github.com/huggingface/safetensors): named tensors in the order of their
/// elements in the file, and text beside them. Element types: F32, F64, BF16, F16, I32, I64 and U8.
struct Safetensors {
  std::vector<std::pair<std::string, Tensor>> tensors;
  std::map<std::string, std::string> metadata;

  /// The tensor of that name. Throws Error if there is none.
  const Tensor& at(std::string_view name) const;
  bool contains(std::string_view name) const;
};

/// What a safetensors file says of its tensors, without their elements.
struct SafetensorsHeader {
  struct Entry {
    std::string name;
    Spec spec;
    std::uint64_t offset = 0;  ///< of the first element, in bytes from the start of the file
  };
  std::vector<Entry> tensors;
  std::map<std::string, std::string> metadata;
};

/// Reads and checks the header alone. Throws Error if the file is truncated, the header is malformed or longer than 100
/// MB, a tensor's bytes disagree with its shape, or the tensors do not fill the file without gap and overlap.
SafetensorsHeader read_safetensors_header(const std::filesystem::path& path);
/// Reads the file. Throws Error as read_safetensors_header does.
Safetensors read_safetensors(const std::filesystem::path& path);

/// Writes the file atomically (see write_file_atomically). Tensors with wider elements come first, otherwise the order
/// is kept; so every tensor is aligned to its elements, and the first one to 64 bytes. Throws Error if a name is used
/// twice or is `__metadata__`, or the disk is full.
void write_safetensors(const std::filesystem::path& path, const Safetensors& content);

/// Puts rows of the tensor of that number in the header into a file, from row `first` on.
using PutRows = std::function<void(std::size_t tensor, Index first, const Tensor& rows)>;
/// The same for tensors that are never at hand as a whole: `content` puts the rows of all that the header names, in any
/// order, each once. The header's offsets do not count. Throws Error, too, if rows are missing.
void write_safetensors(const std::filesystem::path& path, const SafetensorsHeader& header,
                       const std::function<void(const PutRows& put)>& content);

}  // namespace graft::io
