#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "graft/core/activation.h"
#include "graft/core/window.h"
#include "graft/nn/initializer.h"
#include "graft/nn/program.h"
#include "graft/ops/batch_norm.h"

namespace graft::nn {

/// Which statistics a batch-norm normalises with in training. Inference always uses the moving ones.
using ops::Statistics;

/// What a layer lowers itself into: it asks for shapes, declares parameters and emits op calls.
class Lowering {
 public:
  virtual ~Lowering() = default;

  virtual Spec spec(Value value) const = 0;
  Shape shape(Value value) const { return spec(value).shape; }

  /// A trainable parameter of this layer, f32; declared on first use, and found again afterwards.
  virtual Value parameter(std::string_view name, const Shape& shape, Initializer initializer, Fan fan = {}) = 0;
  /// A state of this layer that no gradient reaches: moving mean and variance.
  virtual Value statistic(std::string_view name, const Shape& shape, double initial) = 0;

  /// A call of an op; returns its first result.
  virtual Value call(std::shared_ptr<const Op> op, std::vector<Value> inputs) = 0;
  template <std::derived_from<Op> O>
  Value call(O op, std::vector<Value> inputs) {
    return call(std::make_shared<const O>(std::move(op)), std::move(inputs));
  }

  /// Whether the network is lowered for training: dropout drops.
  virtual bool training() const = 0;
  /// Which statistics this layer's batch-norm uses now.
  virtual Statistics statistics() const = 0;
};

/// Visits the options of a layer by name, to write or to read them. Layers list their options once: `fields("out",
/// options.out)`.
class Fields {
 public:
  virtual ~Fields() = default;
  virtual void operator()(std::string_view name, bool& value) = 0;
  virtual void operator()(std::string_view name, Index& value) = 0;
  virtual void operator()(std::string_view name, double& value) = 0;
  virtual void operator()(std::string_view name, std::string& value) = 0;
  virtual void operator()(std::string_view name, std::vector<Index>& value) = 0;
  void operator()(std::string_view name, Extent& value);
  void operator()(std::string_view name, Padding& value);
  void operator()(std::string_view name, Activation& value);
  void operator()(std::string_view name, Initializer& value);
};

/// A kind of layer with its options. It owns no parameters: the network does, by name, so that a layer may be applied
/// several times and share them.
///
/// To add one of your own: derive from Layer, give it a default constructor, and call `register_layer<YourLayer>()`
/// once before a saved network is loaded.
class Layer {
 public:
  virtual ~Layer() = default;
  /// The name under which it is saved: `conv2d`.
  virtual std::string_view type() const = 0;
  /// Names each option once; a type without options needs nothing.
  virtual void fields(Fields& fields) { static_cast<void>(fields); }
  /// How many inputs it takes; -1 for any number.
  virtual int arity() const { return 1; }
  /// Emits the calls that compute the layer from its inputs. Throws Error if they do not fit.
  virtual Value lower(Lowering& lowering, const std::vector<Value>& inputs) const = 0;
};

using LayerFactory = std::function<std::unique_ptr<Layer>()>;
void register_layer(std::string_view type, LayerFactory factory);
/// Makes a type of layer known to `io::load_network`.
template <class L>
void register_layer() {
  register_layer(L().type(), [] { return std::make_unique<L>(); });
}
/// A layer of a registered type, its options at their defaults. Throws Error for an unknown type.
std::unique_ptr<Layer> make_layer(std::string_view type);

}  // namespace graft::nn
