#pragma once

#include <span>
#include <string_view>

namespace graft::kernels {

/// A row of the kernel tables: which implementations there are.
struct Entry {
  std::string_view name;
  struct Engines {
    bool native, library;
  } cpu, cuda, emulated;
};

/// Every kernel.
std::span<const Entry> all();

/// What this build has at all.
struct Built {
  bool onednn, cuda, cudnn, emulated;
};
Built built();

}  // namespace graft::kernels
