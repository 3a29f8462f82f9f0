#pragma once

#include "graft/autograd/tape.h"

namespace graft::ops {

/// The same elements under another shape, without a copy. x has any type.
///
/// extents  of the result; one may be -1 and is inferred
/// throws   Error if the number of elements is not x's
Tensor reshape(const Tensor& x, std::vector<Index> extents);

/// Axis i of the result is axis `axes[i]` of x: NHWC to NCHW is `{0, 3, 1, 2}`. A copy; x has any type.
///
/// axes    every axis of x once; negative ones count from the end
/// throws  Error if they are not
Tensor permute(const Tensor& x, std::vector<int> axes);
/// Swaps two axes, by default the last two.
Tensor transpose(const Tensor& x, int a = -2, int b = -1);

/// Puts tensors one after the other along an axis.
///
/// parts    1 to 32 tensors of one type, whose shapes differ along `axis` only
/// returns  their common shape, with the sum of their extents along `axis`
/// throws   Error if they do not fit
Tensor concat(std::span<const Tensor> parts, int axis = -1);

/// A box cut out of x: elements start[i] to start[i] + size[i] - 1 along axis i. A copy; x has any type.
///
/// start, size  one number an axis, axes at the end may be left out (they stay whole); a size of -1 reaches to the end
/// throws       Error if the box is not inside x
Tensor slice(const Tensor& x, std::vector<Index> start, std::vector<Index> size);

struct PadOptions {
  std::vector<Index> before;  ///< elements added in front of each axis
  std::vector<Index> after;   ///< and behind it
  double value = 0;
};

/// x with elements of a constant value around it; their number is given for every axis. x has any type.
///
/// throws  Error if a number is negative or missing
Tensor pad(const Tensor& x, const PadOptions& options);

/// x with another element type. The gradient is converted back; integers have none.
Tensor cast(const Tensor& x, DType dtype);

/// The op behind `reshape`: the result shares the elements of x. Input: x.
struct Reshape final : Op {
  std::vector<Index> extents;

  explicit Reshape(std::vector<Index> e) : extents(std::move(e)) {}
  std::string_view name() const override { return "reshape"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  bool is_view() const override { return true; }
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  double operations(std::span<const Spec>, std::span<const Spec>) const override { return 0; }
};

/// The op behind `permute` and `transpose`. Input: x.
struct Permute final : Op {
  std::vector<int> axes;

  explicit Permute(std::vector<int> a) : axes(std::move(a)) {}
  std::string_view name() const override { return "permute"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  double operations(std::span<const Spec>, std::span<const Spec>) const override { return 0; }
};

/// The op behind `concat`. Inputs: the parts.
struct Concat final : Op {
  int axis = -1;

  explicit Concat(int a) : axis(a) {}
  std::string_view name() const override { return "concat"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  bool channel_ranges() const override { return true; }
  double operations(std::span<const Spec>, std::span<const Spec>) const override { return 0; }
};

/// The op behind `slice`. Input: x.
struct Slice final : Op {
  std::vector<Index> start, size;

  Slice(std::vector<Index> from, std::vector<Index> extents) : start(std::move(from)), size(std::move(extents)) {}
  std::string_view name() const override { return "slice"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  double operations(std::span<const Spec>, std::span<const Spec>) const override { return 0; }
};

/// The op behind `pad`. Input: x.
struct Pad final : Op {
  PadOptions options;

  explicit Pad(PadOptions o) : options(std::move(o)) {}
  std::string_view name() const override { return "pad"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
  double operations(std::span<const Spec>, std::span<const Spec>) const override { return 0; }
};

/// The op behind `cast`. Input: x.
struct Cast final : Op {
  DType dtype;

  explicit Cast(DType d) : dtype(d) {}
  std::string_view name() const override { return "cast"; }
  std::string attributes() const override;
  std::vector<Spec> infer(std::span<const Spec> inputs) const override;
  void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const override;
  void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                std::span<const Gradient> dx) const override;
};

}  // namespace graft::ops
