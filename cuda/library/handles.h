#pragma once

#include <string_view>

#include <cublasLt.h>
#include <cudnn.h>

#include "graft/core/context.h"

namespace graft::library {

/// cuDNN's handle of this thread for the Context's GPU, with the Context's stream set. Threads that end leave theirs to
/// others.
cudnnHandle_t cudnn_handle(const Context& context);
/// cuBLASLt's for the Context's GPU, which all threads share.
cublasLtHandle_t cublas_handle(const Context& context);

/// Whether the Context's stream is being recorded, so that nobody may wait for it.
bool is_recording(const Context& context);
/// `NVIDIA H100 80GB HBM3`.
std::string_view gpu_name(const Context& context);

}  // namespace graft::library
