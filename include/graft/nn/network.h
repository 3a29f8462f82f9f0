#pragma once

#include <concepts>
#include <functional>
#include <iosfwd>
#include <map>
#include <optional>

#include "graft/core/preprocessing.h"
#include "graft/nn/layer.h"

namespace graft::nn {

/// A tensor of a network: a weight, or a moving statistic.
struct Parameter {
  std::string name;  ///< `conv1/weight`: the layer's name, a slash, the parameter's
  std::string layer;
  Shape shape;
  bool is_statistic = false;
  Initializer initializer;
  Fan fan;
  Tensor value;  ///< undefined until `Network::materialize` or a load
};

/// A layer by name, and the switches that freezing turns.
struct LayerEntry {
  std::string name;
  std::shared_ptr<const Layer> layer;
  bool trainable = true;                      ///< its weights get gradients
  Statistics statistics = Statistics::batch;  ///< in training
  std::vector<std::string> parameters;        ///< names in the order of declaration
};

/// A layer applied to inputs. Node 0 is the network's input. A node has its layer's name; a second application of a
/// shared layer has a `:1` behind it.
struct NodeEntry {
  std::string name;
  int layer = -1;           ///< index into layers(); -1 for the input
  std::vector<int> inputs;  ///< indices into nodes()
};

struct LowerOptions {
  bool training = false;
  DType dtype = DType::f32;                ///< of activations; parameters stay f32 beside halves
  std::vector<std::string> outputs = {};   ///< only what these nodes need is lowered; empty for the network's output
  std::map<std::string, Spec> given = {};  ///< nodes whose values come from outside: what only they need is left out
};

struct RunOptions {
  bool training = false;
  /// Nodes whose values are returned beside the output.
  std::vector<std::string> watch = {};
  /// Nodes whose values become leaves that require a gradient: what comes after is recorded as if they were inputs.
  std::vector<std::string> leaves = {};
  /// Nodes to stop at: the rest of the network is not run, and `output` is the last one's value.
  std::vector<std::string> until = {};
  /// Values to start from instead of computing them, by node: everything that only they need is left out.
  std::map<std::string, Tensor> given = {};
  /// Called after each op with its call, its results and its wall-clock seconds.
  std::function<void(const Program::Call&, std::span<const Tensor>, double)> observe = {};
};

struct RunResult {
  Tensor output;
  Tensor logits;  ///< what a final softmax was computed from, else the output
  std::map<std::string, Tensor> watched;
};

/// A new head for `Network::graft`: [global average pooling] -> (hidden layer, ReLU, dropout) ... -> linear -> softmax.
struct HeadOptions {
  Index classes = 0;
  std::vector<Index> hidden = {};
  double dropout = 0;
  std::string cut = {};                       ///< the node to graft on; empty for the network's features
  std::vector<std::string> class_names = {};  ///< empty, or one a class
};

/// A convolutional network as a named graph: a table of layers, which own parameters, and a table of nodes, which apply
/// them. The names are Keras's.
///
/// Copies share the parameters' tensors.
class Network {
 public:
  Network() = default;

  std::string name;
  /// What the network expects of its images.
  Preprocessing preprocessing;
  /// The name of each output class, or empty.
  std::vector<std::string> classes;
  /// The node whose value is the features that a head is grafted on; empty if the network has no head of its own.
  std::string features;
  /// Where first values are drawn from.
  std::uint64_t seed = 0;

  /// Extents of one input, without the batch: `[224, 224, 3]`.
  const Shape& input_shape() const { return input_shape_; }
  /// Takes inputs of other extents from now on, and photos resized to them. Throws Error, and changes nothing, if a
  /// layer does not fit them: a linear layer behind a flattened image.
  void set_input_shape(const Shape& shape);
  const std::vector<LayerEntry>& layers() const { return layers_; }
  const std::vector<NodeEntry>& nodes() const { return nodes_; }
  const NodeEntry& output() const { return nodes_.back(); }
  /// Throws Error, with the names that come closest, if there is no such layer.
  const LayerEntry& layer(std::string_view name) const;
  bool has_layer(std::string_view name) const;

  /// Every parameter, layer by layer in the order of the table. Values are made on the first call.
  std::vector<Parameter*> parameters();
  /// Those that get gradients now.
  std::vector<Parameter*> trainable_parameters();
  /// Throws Error if there is no such parameter.
  Parameter& parameter(const std::string& name);
  const std::map<std::string, std::shared_ptr<Parameter>>& parameter_table() const { return parameters_; }
  /// Gives first values to the parameters that have none yet, the same for the same seed whatever the order.
  void materialize();
  /// Numbers in all parameters, moving statistics among them.
  Index parameter_count() const;
  /// Keeps parameters and statistics in f32 (the default) or in f64, which gradient checks want; runs then take inputs
  /// of that type.
  void set_parameter_dtype(DType dtype);
  /// Where the parameters are and runs take place: the CPU at first.
  Device device() const { return device_; }
  /// Keeps copies of the weights in half precision beside them, made again where a weight has changed since: what
  /// kernels of a device read, so that they need not round for themselves. Runs with activations of that type do it.
  void round_weights(DType dtype);
  /// Moves the parameters. Runs then take inputs from anywhere and leave their results there. What holds a parameter's
  /// value (an optimizer, a recorded tape) must be made anew.
  void to(Device device);

  /// Layers that match a glob pattern (`conv5_*`, `block?_conv1`), in order. Throws Error if none does.
  std::vector<std::string> match(std::string_view pattern) const;
  /// No gradients for the weights of these layers, and moving statistics in their batch-norms.
  void freeze(std::string_view pattern = "*");
  /// Gradients for the weights of these layers. Batch-norms stay on the statistics that they have: see
  /// `use_statistics`.
  void unfreeze(std::string_view pattern = "*");
  /// Freezes everything but the last `count` layers that have weights.
  void train_last(int count);
  /// Which statistics the batch-norms that match the pattern use in training. Throws Error if none does.
  void use_statistics(Statistics statistics, std::string_view pattern = "*");

  /// The part of the network up to a node, sharing its parameters.
  Network cut(std::string_view node) const;
  /// Replaces what comes after the features (or `head.cut`) by a new head, whose layers are named `head_...`; the head
  /// is trainable, the rest as it was.
  void graft(const HeadOptions& head);

  /// The network as a Program, for inputs `[N, ...]`.
  Program lower(const Shape& input, const LowerOptions& options = {}) const;
  /// Runs the network value by value. Records on the tape where parameters require gradients and recording is on. The
  /// input may be undefined if `options.given` holds all that is needed.
  RunResult run(const Tensor& input, const RunOptions& options = {});
  /// The output alone.
  Tensor operator()(const Tensor& input) { return run(input).output; }

  /// The table that Keras users know: layer, output shape, parameters, trainable, with floating-point operations and
  /// activation memory at a batch size.
  void summary(std::ostream& out, Index batch = 1) const;

  /// The graph, preprocessing and classes as JSON, without the parameters' values.
  std::string to_json() const;
  /// The inverse. Throws Error if the text is not such a graph.
  static Network from_json(std::string_view text);

 private:
  friend class Builder;
  friend class NetworkLowering;

  int node_index(std::string_view name) const;
  void declare();
  int add_layer(std::string_view name, std::shared_ptr<const Layer> layer);
  int add_node(int layer, std::vector<int> inputs);

  Shape input_shape_;
  std::vector<LayerEntry> layers_;
  std::vector<NodeEntry> nodes_;
  std::map<std::string, std::shared_ptr<Parameter>> parameters_;
  Device device_;
};

/// The input of a network that is built, and its name.
struct BuilderOptions {
  Index height = 224;
  Index width = 224;
  Index channels = 3;
  std::string name = "network";
  std::string input_name = "input";
};

/// Builds a network node by node; shapes are inferred as layers are added.
///
/// ```
/// nn::Builder b({.height = 32, .width = 32});
/// auto x = b.add("conv1", nn::Conv2d({.out = 32, .kernel = 3, .padding = kSame}), b.input());
/// nn::Network net = b.build(b.add("head", nn::Linear({.out = 10}), b.add("pool", nn::GlobalAveragePool(), x)));
/// ```
class Builder {
 public:
  /// A node of the network being built.
  struct Node {
    int index = -1;
  };

  explicit Builder(const BuilderOptions& options = {});

  Node input() const { return {0}; }
  /// Applies a new layer. Throws Error if the name is taken or the layer does not fit its inputs.
  Node add(std::string_view name, std::shared_ptr<const Layer> layer, const std::vector<Node>& inputs);
  template <std::derived_from<Layer> L>
  Node add(std::string_view name, L layer, Node input) {
    return add(name, std::make_shared<const L>(std::move(layer)), std::vector<Node>{input});
  }
  template <std::derived_from<Layer> L>
  Node add(std::string_view name, L layer, const std::vector<Node>& inputs) {
    return add(name, std::make_shared<const L>(std::move(layer)), inputs);
  }
  /// Applies a layer again, with the same parameters.
  Node again(std::string_view name, Node input);
  /// The extents of a node's value for a batch of one.
  Shape shape(Node node) const;
  /// Marks the value that a head is grafted on.
  void features(Node node);
  /// The network that ends in this node. The builder is used up.
  Network build(Node output);

 private:
  Network network_;
  std::vector<Shape> shapes_;
};

}  // namespace graft::nn
