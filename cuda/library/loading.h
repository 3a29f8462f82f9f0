#pragma once

#include <string>

namespace graft::library {

/// Loads a library of the CUDA toolkit from where the system's loader looks, else from where it was when graft was
/// built. It is never closed. Null if it is in neither place; dlerror() says why.
void* load(const std::string& name);

/// nvrtc, which cuDNN compiles kernels with. It is loaded before cuDNN looks for it, and not with the program: its
/// hundred megabytes take as long to load as a small command takes altogether. Null if there is none.
void* nvrtc();

}  // namespace graft::library
