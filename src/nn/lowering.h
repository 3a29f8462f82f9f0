#pragma once

#include "graft/nn/network.h"

namespace graft::nn {

/// Lowers the layers of one network into one Program.
class NetworkLowering final : public Lowering {
 public:
  /// For a finished network: every parameter must be there already.
  NetworkLowering(const Network& network, const LowerOptions& options)
      : network_(network), declaring_(nullptr), options_(options) {}
  /// For a network in the making: parameters are entered into its table.
  explicit NetworkLowering(Network& network) : network_(network), declaring_(&network) {}

  /// A value that comes from outside: the network's input, or one that the caller has computed already.
  Value input(const Spec& spec, const std::string& name);
  /// Lowers one node on the values of its inputs. Errors name the layer.
  Value node(const NodeEntry& node, const std::vector<Value>& inputs);

  Spec spec(Value value) const override { return program_[value].spec; }
  Value parameter(std::string_view name, const Shape& shape, Initializer initializer, Fan fan) override;
  Value statistic(std::string_view name, const Shape& shape, double initial) override;
  Value call(std::shared_ptr<const Op> op, std::vector<Value> inputs) override;
  bool training() const override { return options_.training; }
  Statistics statistics() const override;

  Program take() { return std::move(program_); }
  Program& program() { return program_; }

 private:
  Value add_value(Program::ValueInfo info);
  Value declare(Parameter parameter);
  const LayerEntry& layer() const { return network_.layers()[static_cast<std::size_t>(layer_)]; }

  const Network& network_;
  Network* declaring_;
  LowerOptions options_;
  Program program_;
  std::map<std::string, Value> parameters_;
  int layer_ = -1;
  std::string node_;
};

}  // namespace graft::nn
