#include "library/cublas.h"

#include <dlfcn.h>

#include "core/format.h"
#include "library/loading.h"

namespace graft::library {
namespace {

void* open() {
  const std::string name = fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR);
  void* const library = load(name);
  check(library != nullptr, "[cublas] {} cannot be loaded: {}", name, dlerror());
  return library;
}

template <class Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  check(function != nullptr, "[cublas] the cuBLASLt that was loaded has no {}", name);
}

CublasLt load() {
  void* const library = open();
  CublasLt lt{};
  find(library, "cublasLtGetVersion", lt.version);
  find(library, "cublasLtGetStatusString", lt.status_string);
  find(library, "cublasLtCreate", lt.create);
  find(library, "cublasLtMatrixLayoutInit_internal", lt.layout_init);
  find(library, "cublasLtMatrixLayoutSetAttribute", lt.layout_set);
  find(library, "cublasLtMatmulDescInit_internal", lt.operation_init);
  find(library, "cublasLtMatmulDescSetAttribute", lt.operation_set);
  find(library, "cublasLtMatmulPreferenceInit_internal", lt.preference_init);
  find(library, "cublasLtMatmulPreferenceSetAttribute", lt.preference_set);
  find(library, "cublasLtMatmulAlgoGetHeuristic", lt.heuristic);
  find(library, "cublasLtMatmul", lt.matmul);
  return lt;
}

}  // namespace

const CublasLt& cublas() {
  static const CublasLt functions = load();
  return functions;
}

}  // namespace graft::library
