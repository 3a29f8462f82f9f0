#pragma once

#include <span>
#include <string>
#include <string_view>

namespace graft::kernels {

/// A row of the kernel tables: which implementations there are.
struct Entry {
  std::string_view name;
  struct Engines {
    bool native, library, vectorized;
  } cpu, cuda, emulated;
};

/// Every kernel.
std::span<const Entry> all();

/// What this build has at all.
struct Built {
  bool onednn, vectorized, cuda, cudnn, emulated;
};
Built built();

/// The most that the vectorized kernels use of this processor: none, avx2, avx512, avx512_bf16 or amx.
std::string_view vectorized_isa();

/// Of oneDNN: `2.6.0`; empty in a build without it.
std::string onednn_version();

#if GRAFT_HAS_CUDNN
/// Of the GPU's libraries that are loaded, which need not be those that graft was built with: `9.19.0`. cuBLAS is
/// loaded for the question; if it cannot be, this is the reason.
std::string cudnn_version();
std::string cublas_version();
#endif

}  // namespace graft::kernels
