#pragma once

#include <new>

namespace graft::cuda {

/// CUDA keeps a current GPU for each thread of the CPU, where its kernels, libraries and default stream are. Makes it
/// this one until the end of the scope. Where it is already, as it nearly always is, CUDA is only asked.
class OnGpu {
 public:
  explicit OnGpu(int index);
  /// For destructors: after a fault, CUDA may refuse this too.
  OnGpu(int index, std::nothrow_t) noexcept;
  ~OnGpu();
  OnGpu(const OnGpu&) = delete;
  OnGpu& operator=(const OnGpu&) = delete;

 private:
  int previous_ = -1;  // -1: it was this one before
};

}  // namespace graft::cuda
