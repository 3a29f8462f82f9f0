#include "cpu/avx512/winograd_output.h"

namespace graft::kernels::avx512 {

void winograd_output(const WinogradOutput<float>& tile) { output(tile); }

}  // namespace graft::kernels::avx512
