// What the 32 bits of a kernel cannot count is refused before anything is launched. Nobody has the memory for such
// images: none is touched.

#include "kernels/conv2d.h"
#include "runtime/launches.h"
#include "support/expect.h"

namespace graft {
namespace {

TEST(Limits, ConvolutionsCountPixelsIn31Bits) {
  constexpr Index kSide = Index{1} << 16, kChannels = 4;
  constexpr const char* kTooMany = "a GPU has at most 2^31 - 1 elements, got 4294967296";
  ContextScope scope;
  scope->device = {Device::Kind::emulated, 0};
  scope->engine = Engine::native;
  const auto nowhere = [](const Shape& shape) { return Operand(reinterpret_cast<void*>(0x1000), shape, DType::f32); };
  const Shape image{1, kSide, kSide, kChannels};
  const ConvGeometry g{lay("conv2d", {}, image), kChannels};
  const Operand x = nowhere(image), w = nowhere({kChannels, 1, 1, kChannels});
  Context& context = Context::current();
  reset_launch_counts();
  EXPECT_ERROR(kernels::conv2d_forward(context, g, x, w, {}, {}, Activation::linear, x), kTooMany);
  EXPECT_ERROR(kernels::conv2d_backward_input(context, g, x, w, {x, false}), kTooMany);
  EXPECT_ERROR(kernels::conv2d_backward_weight(context, g, x, x, {w, false}), kTooMany);
  EXPECT_TRUE(launch_counts().empty());
}

}  // namespace
}  // namespace graft
