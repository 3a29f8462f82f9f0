// A network file of graft as LibTorch's eager mode runs it: layer by layer, channels last, the calls that torch::nn's
// modules make. So all networks of a comparison come from one description, the graph in the file's metadata.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

namespace peer {

struct Layer {
  std::string name;
  std::string type;
  nlohmann::json options;
  bool trainable = true;
  bool batch_statistics = true;               // of a batch-norm in training
  std::map<std::string, at::Tensor> tensors;  // `weight`, `moving_mean`, ...: convolutions as [Co, Ci, Kh, Kw]
};

// Values of a layer's inputs -> its value. Images are [N, C, H, W] in channels_last.
using Values = std::vector<at::Tensor>;
using Step = std::function<at::Tensor(const Values& inputs, bool training)>;

// The layer as a function. `in_place` allows an activation to overwrite its input. Throws for a type without one.
Step make_step(const Layer& layer, bool in_place);

// What a new head is put on: the network up to a layer, frozen but for what comes behind another. Batch-norms use their
// moving statistics.
struct Backbone {
  std::string cut;        // empty: the layer that the file names
  std::string frozen_to;  // empty: all of it is frozen
};

class Network {
 public:
  // Reads a file that graft's io::save_network wrote; its tensors become `dtype`. Without a backbone it is taken whole,
  // and frozen as the file says.
  Network(const std::string& file, at::ScalarType dtype, const std::optional<Backbone>& backbone = {});

  // The logits: a softmax at the end is left out. What is frozen is computed once and kept if `keep_frozen` was called.
  at::Tensor forward(const at::Tensor& input, bool training);
  // Computes what no trainable parameter stands before, as somebody does who caches features by hand.
  void keep_frozen(const at::Tensor& input) { kept_ = frozen_values(input); }

  // The same for somebody who keeps them for many batches: by node the frozen values that the rest reads, the others
  // undefined, and the rest from them.
  Values frozen_values(const at::Tensor& input);
  at::Tensor forward_rest(const Values& frozen, bool training) { return run(frozen, training, /*all=*/false); }

  std::vector<at::Tensor> trainable() const;
  std::int64_t parameters() const;  // numbers in them, without statistics
  std::int64_t image() const { return image_; }
  const nlohmann::json& preprocessing() const { return preprocessing_; }
  // Multiplications and additions of convolutions, products and attention in a forward pass.
  double product_operations(const at::Tensor& input);

 private:
  struct Node {
    int layer = 0;
    std::vector<std::size_t> inputs;
    bool frozen = false;
    bool border = false;  // frozen, and read by what is not, or the network's end
    std::size_t last_use = 0;
    Step step;
  };
  void read(const std::string& file, at::ScalarType dtype, const std::optional<Backbone>& backbone);
  std::size_t node_of(const std::string& layer) const;
  void take(const Backbone& backbone);
  void connect();
  Values inputs_of(const Node& node, const Values& values) const;
  // Computes all nodes from the input, or those that are not frozen from `kept_`.
  at::Tensor run(Values values, bool training, bool all,
                 const std::function<void(const Node&, const at::Tensor&)>& after = {});

  std::vector<Layer> layers_;
  std::vector<Node> nodes_;  // node 0 is the input
  std::int64_t image_ = 0;
  nlohmann::json preprocessing_;
  Values kept_;  // of frozen nodes that others read
};

}  // namespace peer
