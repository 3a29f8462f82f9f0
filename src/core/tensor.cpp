#include "graft/core/tensor.h"

#include <algorithm>
#include <cstring>

#include "graft/core/context.h"
#include "graft/core/operand.h"

#include "core/backend.h"
#include "core/dtype_dispatch.h"
#include "core/format.h"
#include "core/write_log.h"

namespace graft {
namespace {

bool on_cpu(const Tensor& tensor) { return tensor.device().kind == Device::Kind::cpu; }
void* current_stream() { return Context::current().stream.handle(); }

// Between tensors of equal size, wherever they are.
void copy_bytes(const Tensor& to, const Tensor& from) {
  if (on_cpu(to) && on_cpu(from)) {
    std::memmove(to.raw(), from.raw(), to.bytes());
  } else if (on_cpu(from)) {
    backend(to.device()).copy(to.raw(), from.raw(), to.bytes(), Backend::Copy::to_device, current_stream());
  } else if (on_cpu(to)) {
    backend(from.device()).copy(to.raw(), from.raw(), to.bytes(), Backend::Copy::to_host, current_stream());
  } else if (to.device() == from.device()) {
    backend(to.device()).copy(to.raw(), from.raw(), to.bytes(), Backend::Copy::on_device, current_stream());
  } else {
    copy_bytes(to, from.to(Device{}));
  }
}

}  // namespace

Operand::Operand(const Tensor& tensor) : Operand(tensor.raw(), tensor.shape(), tensor.dtype()) {
  const std::shared_ptr<Storage> storage = tensor.storage();
  if (storage->packed() != nullptr) block = storage.get();
  if (storage->bytes() == tensor.bytes()) rounded = storage.get();
}

struct Tensor::State {
  std::shared_ptr<Storage> storage;
  std::size_t offset = 0;  // in bytes
  Shape shape;
  DType dtype = DType::f32;
  bool requires_grad = false;
  Tensor grad;
  std::shared_ptr<autograd::Node> producer;
  int producer_output = 0;
};

Tensor::State& Tensor::state() const {
  check(state_ != nullptr, "[tensor] used before it was given a value");
  return *state_;
}

Tensor Tensor::over(std::shared_ptr<Storage> storage, std::size_t offset, const Shape& shape, DType dtype) {
  const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * size_of(dtype);
  check(offset <= storage->bytes() && bytes <= storage->bytes() - offset,
        "[tensor] {} {} at byte {} ends beyond its {} bytes of memory", dtype, shape, offset, storage->bytes());
  Tensor tensor;
  tensor.state_ = std::make_shared<State>();
  tensor.state_->storage = std::move(storage);
  tensor.state_->offset = offset;
  tensor.state_->shape = shape;
  tensor.state_->dtype = dtype;
  return tensor;
}

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  return over(Storage::allocate(static_cast<std::size_t>(shape.elements()) * size_of(dtype), device), 0, shape, dtype);
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
  Tensor tensor = empty(shape, dtype, device);
  tensor.fill(0);
  return tensor;
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor tensor = empty(shape, dtype, device);
  tensor.fill(value);
  return tensor;
}

Tensor Tensor::from_bytes(const Shape& shape, DType dtype, std::span<const std::byte> bytes) {
  Tensor tensor = empty(shape, dtype);
  check(bytes.size() == tensor.bytes(), "[tensor] {} {} takes {} bytes, got {}", dtype, shape, tensor.bytes(),
        bytes.size());
  if (!bytes.empty()) std::memcpy(tensor.raw(), bytes.data(), bytes.size());
  return tensor;
}

const Shape& Tensor::shape() const { return state().shape; }
DType Tensor::dtype() const { return state().dtype; }
Device Tensor::device() const { return state().storage->device(); }
void* Tensor::raw() const { return state().storage->data() + state().offset; }
std::shared_ptr<Storage> Tensor::storage() const { return state().storage; }
std::uint64_t Tensor::version() const { return state().storage->version(); }
void Tensor::bump_version() {
  state().storage->bump_version();
  WriteLog::note(state().storage);
}

void* Tensor::checked_data(DType expected) const {
  check(dtype() == expected, "[tensor] {} was read as {}", dtype(), expected);
  check(device().kind == Device::Kind::cpu, "[tensor] the elements are on {}, not on the CPU", device());
  return raw();
}

double Tensor::item() const {
  check(elements() == 1, "[tensor] item() needs one element, {} has {}", shape(), elements());
  if (device().kind != Device::Kind::cpu) return to(Device{}).item();
  return dispatch(dtype(), [&]<class T>(Type<T>) { return static_cast<double>(*data<T>()); });
}

Tensor Tensor::reshaped(std::initializer_list<Index> extents) const {
  return over(state().storage, state().offset,
              shape().reshaped(std::span<const Index>(extents.begin(), extents.size())), dtype());
}

Tensor Tensor::reshaped(const Shape& target) const {
  return over(state().storage, state().offset, shape().reshaped(std::span<const Index>(target.begin(), target.end())),
              dtype());
}

Tensor Tensor::rows(Index first, Index count) const {
  check(shape().rank() > 0 && first >= 0 && count >= 0 && first + count <= shape()[0], "[rows] {} has no rows {} to {}",
        shape(), first, first + count);
  const Shape target = shape().with(0, count);
  const std::size_t row_bytes = shape()[0] == 0 ? 0 : bytes() / static_cast<std::size_t>(shape()[0]);
  return over(state().storage, state().offset + static_cast<std::size_t>(first) * row_bytes, target, dtype());
}

Tensor Tensor::clone() const {
  Tensor copy = empty(shape(), dtype(), device());
  copy.copy_from(*this);
  return copy;
}

Tensor Tensor::to(DType dtype) const {
  if (dtype == this->dtype()) return *this;
  Tensor copy = empty(shape(), dtype, device());
  copy.copy_from(*this);
  return copy;
}

Tensor Tensor::to(Device device) const {
  if (device == this->device()) return *this;
  Tensor copy = empty(shape(), dtype(), device);
  copy.copy_from(*this);
  return copy;
}

void Tensor::copy_from(const Tensor& source) {
  check(source.shape() == shape(), "[copy] expected {}, got {}", shape(), source.shape());
  const Index count = elements();
  if (source.dtype() == dtype()) {
    if (count > 0) copy_bytes(*this, source);
    bump_version();
    return;
  }
  if (!on_cpu(*this) || !on_cpu(source)) return copy_from(source.to(Device{}).to(dtype()));
  dispatch(source.dtype(), [&]<class From>(Type<From>) {
    dispatch(dtype(), [&]<class To>(Type<To>) {
      const From* from = source.data<From>();
      To* to = mutable_data<To>();
      for (Index i = 0; i < count; ++i) to[i] = convert<To>(from[i]);
    });
  });
}

void Tensor::fill(double value) {
  if (!on_cpu(*this)) {
    const Tensor element = full({}, value, dtype());
    std::uint64_t pattern = 0;
    std::memcpy(&pattern, element.raw(), element.bytes());
    if (elements() > 0) {
      backend(device()).fill(raw(), pattern, size_of(dtype()), static_cast<std::size_t>(elements()), current_stream());
    }
    return bump_version();
  }
  dispatch(dtype(), [&]<class T>(Type<T>) { std::fill_n(mutable_data<T>(), elements(), static_cast<T>(value)); });
}

bool Tensor::requires_grad() const { return defined() && (state_->requires_grad || state_->producer != nullptr); }

void Tensor::set_requires_grad(bool value) {
  check(state().producer == nullptr, "[requires_grad] the tensor is the result of a recorded op; detach() it first");
  check(!value || is_floating(dtype()), "[requires_grad] a gradient needs a floating type, got {}", dtype());
  state().requires_grad = value;
}

Tensor Tensor::grad() const { return state().grad; }

void Tensor::set_grad(Tensor grad) {
  check(!grad.defined() || grad.shape() == shape(), "[grad] expected {}, got {}", shape(),
        grad.defined() ? grad.shape() : Shape{});
  state().grad = std::move(grad);
}

Tensor Tensor::detach() const { return over(state().storage, state().offset, shape(), dtype()); }

const std::shared_ptr<autograd::Node>& Tensor::producer() const { return state().producer; }
int Tensor::producer_output() const { return state().producer_output; }

void Tensor::set_producer(std::shared_ptr<autograd::Node> node, int output) {
  state().producer = std::move(node);
  state().producer_output = output;
}

}  // namespace graft
