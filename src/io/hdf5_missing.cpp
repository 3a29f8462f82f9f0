// Stands in for the HDF5 reader in a build without it: a file cannot be opened, so nothing else is ever called.
#include "core/format.h"
#include "io/hdf5.h"

namespace graft::io {
namespace {

[[noreturn]] void refuse(const std::string& name) {
  fail(
      "{}: this is an HDF5 file, and this build of graft is without HDF5: install zlib1g-dev and configure with "
      "-DGRAFT_WITH_HDF5=ON",
      name);
}

}  // namespace

Hdf5File::Hdf5File(const std::filesystem::path& path) { refuse(path.string()); }
// NOLINTNEXTLINE(performance-unnecessary-value-param): the reader, whose place this takes, keeps both
Hdf5File::Hdf5File(std::string name, std::vector<std::byte>) { refuse(name); }
Hdf5File::Kind Hdf5File::kind(const std::string&) const { refuse(name_); }
std::vector<Hdf5File::Object> Hdf5File::objects() const { refuse(name_); }
bool Hdf5File::has_attribute(const std::string&, const char*) const { refuse(name_); }
std::optional<std::vector<std::string>> Hdf5File::strings(const std::string&, const char*) const { refuse(name_); }
std::string Hdf5File::text(const std::string&, const char*) const { refuse(name_); }
Tensor Hdf5File::dataset(const std::string&) const { refuse(name_); }

}  // namespace graft::io
