#pragma once

#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

#include "graft/core/shape.h"
#include "graft/core/storage.h"

namespace graft {

namespace autograd {
class Node;
}

/// A dense row-major array. A Tensor is a handle: copies share the elements. Images are `[N, H, W, C]`.
///
/// A tensor may require a gradient (`set_requires_grad`). Ops applied to it are then recorded, and `autograd::backward`
/// adds d(loss)/d(tensor) to `grad()`.
class Tensor {
 public:
  /// An undefined tensor, the only one that `defined()` denies.
  Tensor() = default;

  static Tensor empty(const Shape& shape, DType dtype = DType::f32, Device device = {});
  static Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = {});
  /// Every element `value`, converted to the dtype.
  static Tensor full(const Shape& shape, double value, DType dtype = DType::f32, Device device = {});
  /// A CPU tensor of the values, in row-major order. Throws Error if their number is not the shape's.
  template <class T>
  static Tensor from(const Shape& shape, const std::vector<T>& values) {
    return from_bytes(shape, dtype_of<T>, std::as_bytes(std::span(values)));
  }
  static Tensor from_bytes(const Shape& shape, DType dtype, std::span<const std::byte> bytes);
  /// A tensor over existing memory, starting at `offset` bytes.
  static Tensor over(std::shared_ptr<Storage> storage, std::size_t offset, const Shape& shape, DType dtype);

  bool defined() const { return state_ != nullptr; }
  const Shape& shape() const;
  DType dtype() const;
  Spec spec() const { return {shape(), dtype()}; }
  Device device() const;
  Index elements() const { return shape().elements(); }
  std::size_t bytes() const { return static_cast<std::size_t>(elements()) * size_of(dtype()); }

  /// The elements, for reading. Throws Error if T is not the dtype or the memory is not the CPU's.
  template <class T>
  const T* data() const {
    return static_cast<const T*>(checked_data(dtype_of<T>));
  }
  /// The elements, for writing: counts as a change of every tensor that shares them.
  template <class T>
  T* mutable_data() {
    bump_version();
    return static_cast<T*>(checked_data(dtype_of<T>));
  }
  template <class T>
  std::span<const T> values() const {
    return {data<T>(), static_cast<std::size_t>(elements())};
  }
  /// A pointer to the first element, whatever its type and device.
  void* raw() const;
  /// The only element, as a double. Throws Error if there is not exactly one.
  double item() const;

  /// The same elements under another shape; one extent may be -1 and is inferred. Not recorded: see ops::reshape.
  Tensor reshaped(std::initializer_list<Index> extents) const;
  Tensor reshaped(const Shape& shape) const;
  /// Rows `first` to `first + count` of axis 0, sharing the elements. Not recorded.
  Tensor rows(Index first, Index count) const;
  /// A copy with elements of its own. Not recorded.
  Tensor clone() const;
  /// A copy with another element type; the tensor itself if it has that type. Not recorded: see ops::cast.
  Tensor to(DType dtype) const;
  /// A copy on another device; the tensor itself if it is there. A copy to the CPU waits for the work before it. Not
  /// recorded.
  Tensor to(Device device) const;
  /// Copies the elements of another tensor of the same shape, from any device, converting them. A conversion on a
  /// device goes through the CPU: see ops::cast for one that does not.
  void copy_from(const Tensor& source);
  void fill(double value);

  /// Whether gradients with respect to this tensor are recorded.
  bool requires_grad() const;
  /// Turns a tensor that no op produced into a leaf of the tape, or back. Throws Error for the result of a recorded op,
  /// and unless floating.
  void set_requires_grad(bool value);
  /// d(loss)/d(this), undefined until a backward reached it. Only leaves keep one.
  Tensor grad() const;
  void set_grad(Tensor grad);
  void clear_grad() { set_grad({}); }
  /// The same elements, cut off from the tape.
  Tensor detach() const;

  std::shared_ptr<Storage> storage() const;
  std::uint64_t version() const;
  void bump_version();
  /// Equal for handles to the same tensor, and only for them.
  const void* id() const { return state_.get(); }

  /// The recorded op that produced this tensor and which of its outputs it is. Null for leaves and unrecorded results.
  const std::shared_ptr<autograd::Node>& producer() const;
  int producer_output() const;
  void set_producer(std::shared_ptr<autograd::Node> node, int output);

 private:
  struct State;
  void* checked_data(DType expected) const;
  State& state() const;

  std::shared_ptr<State> state_;
};

}  // namespace graft
