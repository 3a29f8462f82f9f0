#include "library/loading.h"

#include <dlfcn.h>
#include <nvrtc.h>

#include "graft/core/error.h"

#include "core/format.h"

namespace graft::library {

void* load(const std::string& name) {
  for (const std::string& path : {name, GRAFT_CUDA_LIBRARIES "/" + name})
    if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  return nullptr;
}

void* nvrtc() {
  static void* const library = load("libnvrtc.so." GRAFT_CUDA_MAJOR);
  return library;
}

namespace {

template <class... Args>
nvrtcResult call(const char* name, Args... args) {
  void* const function = nvrtc() == nullptr ? nullptr : dlsym(nvrtc(), name);
  check(function != nullptr, "[nvrtc] {} is not to be had: nvrtc cannot be loaded", name);
  return reinterpret_cast<nvrtcResult (*)(Args...)>(function)(args...);
}

}  // namespace
}  // namespace graft::library

// What cuDNN's frontend names of nvrtc, for an engine of its own that graft never asks for.
extern "C" {
nvrtcResult nvrtcCreateProgram(nvrtcProgram* program, const char* source, const char* name, int count,
                               const char* const* headers, const char* const* names) {
  return graft::library::call("nvrtcCreateProgram", program, source, name, count, headers, names);
}
nvrtcResult nvrtcDestroyProgram(nvrtcProgram* program) { return graft::library::call("nvrtcDestroyProgram", program); }
nvrtcResult nvrtcCompileProgram(nvrtcProgram program, int count, const char* const* options) {
  return graft::library::call("nvrtcCompileProgram", program, count, options);
}
nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char* code) {
  return graft::library::call("nvrtcGetCUBIN", program, code);
}
nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, size_t* bytes) {
  return graft::library::call("nvrtcGetCUBINSize", program, bytes);
}
nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char* log) {
  return graft::library::call("nvrtcGetProgramLog", program, log);
}
nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t* bytes) {
  return graft::library::call("nvrtcGetProgramLogSize", program, bytes);
}
}
