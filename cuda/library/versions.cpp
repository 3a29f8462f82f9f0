#include <cudnn.h>

#include "graft/core/error.h"

#include "core/format.h"
#include "kernels/registry.h"
#include "library/cublas.h"

namespace graft::kernels {
namespace {

std::string text(std::size_t version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

}  // namespace

std::string cudnn_version() { return text(cudnnGetVersion()); }

std::string cublas_version() {
  try {
    return text(library::cublas().version());
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace graft::kernels
