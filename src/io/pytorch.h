#pragma once

#include "graft/io/file.h"
#include "graft/io/weight_file.h"

#include "io/zip.h"

namespace graft::io {

/// Reads a state dict in the zip format (PyTorch 1.6 and later).
WeightFile read_pytorch_zip(const ZipArchive& archive);

/// Whether a file starts like PyTorch's older stream: a pickle of the number 0x1950a86a20f9469cfc6c.
bool is_pytorch_stream(const InputFile& file);
/// Reads a state dict in the older stream: pickles of a magic number, a version, the machine, the dict and the keys,
/// then the storages one after the other.
WeightFile read_pytorch_stream(const InputFile& file);

/// Groups keys `layer.variable` into layers by their last dot, in their order.
std::vector<WeightLayer> group_by_last_dot(std::vector<std::pair<std::string, Tensor>> tensors);

}  // namespace graft::io
