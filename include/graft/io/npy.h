#pragma once

#include <filesystem>

#include "graft/core/tensor.h"

namespace graft::io {

/// Reads a NumPy array file (.npy, format 1 or 2): little-endian f32, f64, f16, i32, i64 or u8 in C order.
/// Throws Error for any other type or order, and if the size of the file is not what the header makes it.
Tensor read_npy(const std::filesystem::path& path);

/// Writes a NumPy array file, format 1, atomically (see write_file_atomically). Throws Error for bf16, which NumPy does
/// not have.
void write_npy(const std::filesystem::path& path, const Tensor& tensor);

}  // namespace graft::io
