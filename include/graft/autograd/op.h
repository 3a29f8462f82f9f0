#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graft/core/activation.h"
#include "graft/core/context.h"
#include "graft/core/operand.h"
#include "graft/core/window.h"

namespace graft {

/// A set of small indices: which inputs or outputs of an op.
struct Slots {
  std::uint32_t bits = 0;

  constexpr Slots() = default;
  constexpr Slots(std::initializer_list<int> indices) {
    for (const int index : indices) add(index);
  }
  constexpr bool has(int index) const { return (bits >> index) & 1u; }
  constexpr void add(int index) { bits |= 1u << index; }
  constexpr bool any() const { return bits != 0; }
};

/// Which tensors an op's backward reads. What is not named here is not kept.
struct Saves {
  Slots inputs;
  Slots outputs;
};

/// What backward gets: the operands it asked to be saved. The others have a shape and a type but no data.
struct Saved {
  std::span<const Operand> inputs;
  std::span<const Operand> outputs;
  bool dy_is_scratch = false;  ///< nobody reads dy afterwards: backward may change it
};

/// A primitive operation: a value with attributes, and functions that infer shapes and run forward and backward. An op
/// is defined once; the tape, the interpreter and the planner all run this definition. To add one of your own, derive
/// from Op outside graft and call `autograd::apply`.
///
/// An op is immutable and has no state between calls.
class Op {
 public:
  virtual ~Op() = default;

  /// The name that error messages and profiles use: `conv2d`.
  virtual std::string_view name() const = 0;
  /// The attributes as text, `stride 2x2, padding 3,3,3,3`; empty if there are none.
  virtual std::string attributes() const { return {}; }

  /// Shapes and types of the outputs. Throws Error if the inputs do not fit the op.
  virtual std::vector<Spec> infer(std::span<const Spec> inputs) const = 0;
  /// The first outputs are the op's results; further ones exist only for backward (saved statistics, positions of
  /// maxima).
  virtual int results() const { return 1; }
  /// Computes every output. With `is_view`, output 0 shares the elements of input 0 already.
  virtual void forward(Context& context, std::span<const Operand> inputs, std::span<const Operand> outputs) const = 0;

  /// What backward reads when the gradients of the inputs in `wanted` are asked for.
  virtual Saves saves(Slots wanted) const {
    static_cast<void>(wanted);
    return {};
  }
  /// Computes d(loss)/d(input) for every destination in `dx`, given d(loss)/d(result) in `dy`. Throws Error by default:
  /// the op has no gradient.
  virtual void backward(Context& context, const Saved& saved, std::span<const Operand> dy,
                        std::span<const Gradient> dx) const;

  /// Hidden outputs that forward does not compute where they are absent: for ops whose backward alone reads them, at a
  /// price.
  virtual Slots optional_outputs() const { return {}; }
  /// An op that computes the same outputs from the same inputs once more, bit for bit, and changes nothing else: where
  /// that is cheap, so that a result need not be kept for a backward. Null, as by default, where it is not.
  virtual std::shared_ptr<const Op> again() const { return nullptr; }
  /// True if output 0 is input 0 under another shape.
  virtual bool is_view() const { return false; }
  /// Inputs that forward changes in place: moving statistics.
  virtual Slots updates() const { return {}; }
  /// True if two runs on the same inputs differ: dropout.
  virtual bool is_random() const { return false; }
  /// Inputs whose memory output 0 may take, if they are of its shape and type and nobody reads them afterwards.
  virtual Slots in_place() const { return {}; }
  /// Inputs whose gradient may be put where dy[0] is, if they have its shape and type and get no gradient from
  /// elsewhere before: d(loss)/d(input) then has dy's memory as its destination, and dy is scratch.
  virtual Slots gradient_in_place() const { return {}; }
  /// True if its kernels take results and inputs that are ranges of channels of wider ones (Operand::pitch).
  virtual bool channel_ranges() const { return false; }
  /// The same op with a function applied to its result, or null if it has no such form. A function whose derivative
  /// needs more than the result makes it one for inference.
  virtual std::shared_ptr<const Op> with_activation(Activation function) const;
  /// The same op with one more input, the last, that is added to its result; null if it has no such form.
  virtual std::shared_ptr<const Op> with_residual() const;
  /// The same op with an image surrounded by more zeros, or null if it has no such form. `never_negative` says that the
  /// image is nowhere below zero.
  virtual std::shared_ptr<const Op> with_padding(const Padding& more, bool never_negative) const;
  /// Floating-point operations of a forward; a multiply and an add are two. By default one an output element.
  virtual double operations(std::span<const Spec> inputs, std::span<const Spec> outputs) const;
};

}  // namespace graft
