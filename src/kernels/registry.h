#pragma once

#include <span>
#include <string_view>

namespace graft::kernels {

/// A row of the kernel tables: which implementations there are.
struct Entry {
  std::string_view name;
  bool cpu_native;
  bool cpu_library;
};

/// Every kernel.
std::span<const Entry> all();

/// Whether this build has a library for the CPU at all.
bool has_cpu_library();

}  // namespace graft::kernels
