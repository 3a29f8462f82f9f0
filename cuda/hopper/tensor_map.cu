#include <string>

#include "graft/core/error.h"

#include "hopper/layout.h"
#include "hopper/tensor_map.h"

namespace graft::GRAFT_TARGET::hopper {

// The rules are those of cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col in the CUDA driver's reference.
const char* broken_rule(const MapDescription& map) {
  constexpr auto kMostBytes = std::uint64_t{1} << 40;
  constexpr auto kMostElements = std::uint64_t{1} << 32;
  constexpr std::uint32_t kMostRows = 256, kMostPixels = 1024;
  if (reinterpret_cast<std::uintptr_t>(map.data) % 16 != 0) return "the tensor begins at a multiple of 16 bytes";
  for (std::size_t axis = 0; axis < std::size_t{MapDescription::kAxes}; ++axis) {
    if (map.extents[axis] == 0 || map.extents[axis] > kMostElements) return "an axis has 1 to 2^32 elements";
    if (axis == 0) continue;
    if (map.strides[axis] == 0 || map.strides[axis] % 16 != 0) return "strides are multiples of 16 bytes";
    if (map.strides[axis] >= kMostBytes) return "strides are less than 2^40 bytes";
  }
  if (map.box_rows == 0 || map.box_rows > (map.windows ? kMostPixels : kMostRows)) return "a box has 1 to 256 rows";
  if (!map.windows) return nullptr;
  for (std::size_t i = 0; i < 2; ++i) {
    if (map.stride[i] < 1 || map.stride[i] > 8) return "the stride of windows is 1 to 8";
    if (map.lower[i] < -128 || map.lower[i] > 127 || map.upper[i] < -128 || map.upper[i] > 127)
      return "the corners of the bounding box lie -128 to 127 from those of the image";
    if (static_cast<std::int64_t>(map.extents[i + 1]) - 1 + map.upper[i] < map.lower[i])
      return "the bounding box is not empty";
    if (map.farthest[i] < 0 || map.farthest[i] > 255) return "the offsets of taps are 0 to 255";
  }
  return nullptr;
}

#if defined(__CUDACC__)
namespace {

// A function of the driver by its name, for the driver is not linked: a machine without one still runs on the CPU.
template <class Function>
Function* driver_function(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  constexpr unsigned kSince = 12000;  // the version of CUDA that brought tensor maps
  const cudaError_t status = cudaGetDriverEntryPointByVersion(name, &function, kSince, cudaEnableDefault, &found);
  if (status != cudaSuccess || found != cudaDriverEntryPointSuccess)
    throw Error(std::string("[cuda] expected a driver that has ") + name + ", got " + cudaGetErrorString(status));
  return reinterpret_cast<Function*>(function);
}

void require(CUresult status, const char* what) {
  if (status != CUDA_SUCCESS)
    throw Error(std::string("[cuda] ") + what + " refused a tensor map: CUresult " +
                std::to_string(static_cast<int>(status)));
}

}  // namespace

TensorMap encode(const MapDescription& map) {
  static auto* const encode_tiled = driver_function<decltype(cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  static auto* const encode_windows = driver_function<decltype(cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col");
  const auto type = map.bfloat ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  constexpr cuuint32_t axes = MapDescription::kAxes;
  void* const data = const_cast<void*>(map.data);
  cuuint64_t extents[MapDescription::kAxes], strides[MapDescription::kAxes];  // strides without the first
  cuuint32_t box[MapDescription::kAxes], steps[MapDescription::kAxes];
  for (int axis = 0; axis < MapDescription::kAxes; ++axis) {
    const auto i = static_cast<std::size_t>(axis);
    extents[i] = map.extents[i];
    if (axis > 0) strides[i - 1] = map.strides[i];
    box[i] = axis == 0 ? kSpan : axis == map.rows_axis ? map.box_rows : 1;
    steps[i] = map.windows && (axis == 1 || axis == 2) ? static_cast<cuuint32_t>(map.stride[i - 1]) : 1;
  }
  TensorMap result;
  if (map.windows)  // corners come in the order of the axes, W before H
    require(encode_windows(&result, type, axes, data, extents, strides, map.lower.data(), map.upper.data(), kSpan,
                           map.box_rows, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                           CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
            "cuTensorMapEncodeIm2col");
  else
    require(
        encode_tiled(&result, type, axes, data, extents, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                     CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
        "cuTensorMapEncodeTiled");
  return result;
}
#else
TensorMap encode(const MapDescription& map) { return map; }
#endif

}  // namespace graft::GRAFT_TARGET::hopper
