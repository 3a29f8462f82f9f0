#include "graft/io/weight_file.h"

#include <algorithm>

#include "graft/io/file.h"
#include "graft/io/network_file.h"
#include "graft/io/safetensors.h"

#include "core/format.h"
#include "io/hdf5.h"
#include "io/keras.h"
#include "io/pytorch.h"
#include "io/zip.h"

namespace graft::io {
namespace {

std::string text_at(const InputFile& file, std::uint64_t offset, std::uint64_t count) {
  if (offset >= file.size()) return {};
  const std::vector<std::byte> bytes = file.read(offset, std::min(count, file.size() - offset));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// HDF5 lets a block of the user's own stand before the file, of 512 bytes or a power of two times that.
bool is_hdf5(const InputFile& file) {
  constexpr std::string_view kSignature = "\x89HDF\r\n\x1a\n";
  for (std::uint64_t offset = 0; offset < file.size(); offset = offset == 0 ? 512 : 2 * offset) {
    if (text_at(file, offset, kSignature.size()) == kSignature) return true;
  }
  return false;
}

bool is_safetensors(const InputFile& file) {
  if (file.size() < 10) return false;
  std::uint64_t header = 0;
  file.read(0, std::as_writable_bytes(std::span(&header, 1)));
  return header <= file.size() - 8 && text_at(file, 8, 1) == "{";
}

WeightFile read_zip(const ZipArchive& archive) {
  const auto& members = archive.members();
  if (archive.find("config.json")) return read_keras_archive(archive);
  const bool pytorch = std::any_of(members.begin(), members.end(),
                                   [](const auto& m) { return m.name == "data.pkl" || m.name.ends_with("/data.pkl"); });
  if (pytorch) return read_pytorch_zip(archive);
  fail("[weights] {}: this zip archive holds neither a Keras model (config.json) nor a PyTorch state dict (data.pkl)",
       archive.file());
}

WeightFile read_safetensors_weights(const std::filesystem::path& path) {
  const Safetensors content = read_safetensors(path);
  WeightFile result;
  result.format = content.metadata.contains(kNetworkKey) ? "graft" : "safetensors";
  result.layers = group_by_last_dot(content.tensors);
  return result;
}

}  // namespace

const Tensor* WeightLayer::find(std::string_view tensor) const {
  const auto found =
      std::find_if(tensors.begin(), tensors.end(), [&](const WeightTensor& t) { return t.name == tensor; });
  return found == tensors.end() ? nullptr : &found->value;
}

const WeightLayer* WeightFile::find(std::string_view layer) const {
  const auto found = std::find_if(layers.begin(), layers.end(), [&](const WeightLayer& l) { return l.name == layer; });
  return found == layers.end() ? nullptr : &*found;
}

WeightFile read_weights(const std::filesystem::path& path) {
  const InputFile file(path);
  file.check_is_itself();
  if (text_at(file, 0, 4) == "PK\x03\x04") return read_zip(ZipArchive(path));
  if (is_pytorch_stream(file)) return read_pytorch_stream(file);
  if (is_safetensors(file)) return read_safetensors_weights(path);
  if (is_hdf5(file)) return read_keras_hdf5(Hdf5File(path));
  fail(
      "[weights] {}: expected Keras HDF5, a .keras archive, a PyTorch state dict or safetensors, got a file that "
      "starts like none of these",
      path.string());
}

}  // namespace graft::io
