#include "graft/core/window.h"

#include "core/format.h"

namespace graft {
namespace {

struct Side {
  Index before, after, out;
};

Side lay_side(std::string_view op, std::string_view what, Index input, Index kernel, Index stride, Index dilation,
              Index before, Index after, bool same) {
  check(kernel > 0 && stride > 0 && dilation > 0,
        "[{}] kernel, stride and dilation must be positive, got {}, {}, {} ({})", op, kernel, stride, dilation, what);
  const Index reach = dilation * (kernel - 1) + 1;
  if (same) {
    const Index out = (input + stride - 1) / stride;
    const Index total = std::max<Index>((out - 1) * stride + reach - input, 0);
    return {total / 2, total - total / 2, out};
  }
  check(before >= 0 && after >= 0, "[{}] padding must not be negative, got {} and {} ({})", op, before, after, what);
  const Index padded = input + before + after;
  check(padded >= reach, "[{}] the window reaches over {} pixels, the padded image has {} ({} {} + {} + {})", op, reach,
        padded, what, before, input, after);
  return {before, after, (padded - reach) / stride + 1};
}

}  // namespace

std::string Window::to_string() const {
  std::string text = fmt::format("{}x{}, stride {}x{}", kernel.height, kernel.width, stride.height, stride.width);
  if (!(dilation == Extent(1))) text += fmt::format(", dilation {}x{}", dilation.height, dilation.width);
  if (padding.is_same) return text + ", padding same";
  return text + fmt::format(", padding {} {} {} {}", padding.top, padding.bottom, padding.left, padding.right);
}

WindowGeometry lay(std::string_view op, const Window& w, const Shape& image) {
  check(image.rank() == 4, "[{}] expected an image [N, H, W, C], got {}", op, image);
  const Side rows = lay_side(op, "height", image[1], w.kernel.height, w.stride.height, w.dilation.height, w.padding.top,
                             w.padding.bottom, w.padding.is_same);
  const Side columns = lay_side(op, "width", image[2], w.kernel.width, w.stride.width, w.dilation.width, w.padding.left,
                                w.padding.right, w.padding.is_same);
  return {.batch = image[0],
          .height = image[1],
          .width = image[2],
          .channels = image[3],
          .kernel_height = w.kernel.height,
          .kernel_width = w.kernel.width,
          .stride_height = w.stride.height,
          .stride_width = w.stride.width,
          .dilation_height = w.dilation.height,
          .dilation_width = w.dilation.width,
          .pad_top = rows.before,
          .pad_left = columns.before,
          .pad_bottom = rows.after,
          .pad_right = columns.after,
          .out_height = rows.out,
          .out_width = columns.out};
}

}  // namespace graft
