#include "runtime/launch.h"

namespace graft::cuda {
namespace {

template <class T>
__global__ void fill_pattern_kernel(T* to, T pattern, Index count) {
  for (Index i = first_index(); i < count; i += index_stride()) to[i] = pattern;
}

template <class T>
void fill_with(void* to, std::uint64_t pattern, std::size_t count, void* stream) {
  launch(stream, "fill", grid_for(static_cast<Index>(count)), fill_pattern_kernel<T>, static_cast<T*>(to),
         static_cast<T>(pattern), static_cast<Index>(count));
}

}  // namespace

void fill_pattern(void* to, std::uint64_t pattern, std::size_t element_bytes, std::size_t count, void* stream) {
  switch (element_bytes) {
    case 1:
      return fill_with<std::uint8_t>(to, pattern, count, stream);
    case 2:
      return fill_with<std::uint16_t>(to, pattern, count, stream);
    case 4:
      return fill_with<std::uint32_t>(to, pattern, count, stream);
    default:
      return fill_with<std::uint64_t>(to, pattern, count, stream);
  }
}

}  // namespace graft::cuda
