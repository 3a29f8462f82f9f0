#include "library/frontend.h"

#include <array>
#include <unordered_map>

#include <cudnn_frontend.h>

#include "core/format.h"

namespace graft::cudnn {
namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;
using Kind = Operation::Kind;
using Numbers = std::vector<std::int64_t>;

fe::DataType_t type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return fe::DataType_t::FLOAT;
    case DType::f64:
      return fe::DataType_t::DOUBLE;
    case DType::f16:
      return fe::DataType_t::HALF;
    case DType::bf16:
      return fe::DataType_t::BFLOAT16;
    default:
      fail("[cudnn] no tensor of a graph has type {}", dtype);
  }
}

template <std::size_t N>
Numbers list(const std::array<Index, N>& numbers) {
  return {numbers.begin(), numbers.end()};
}

/// Adds an OperationGraph's operations one after the other to cuDNN's. A value's number plus one is its tensor's
/// identity.
class Translation {
 public:
  Translation(const OperationGraph& from, fe::graph::Graph& to) : from_(from), to_(to), tensors_(from.values.size()) {}

  void run() {
    for (const Operation& operation : from_.operations) add(operation);
  }

 private:
  Tensor input(int number) {
    if (number < 0) return nullptr;
    Tensor& tensor = tensors_[static_cast<std::size_t>(number)];
    if (tensor == nullptr) {
      const Value& v = value(number);
      if (v.place == Value::Place::constant) return tensor = to_.tensor(v.number);
      fe::graph::Tensor_attributes attributes;
      describe(v, number, attributes);
      tensor = to_.tensor(attributes);
    }
    return tensor;
  }

  void output(int number, const Tensor& made) {
    if (number < 0) return;
    const Value& v = value(number);
    describe(v, number, *made);
    made->set_output(v.place == Value::Place::memory);
    tensors_[static_cast<std::size_t>(number)] = made;
  }

  const Value& value(int number) const { return from_.values[static_cast<std::size_t>(number)]; }

  static void describe(const Value& v, int number, fe::graph::Tensor_attributes& to) {
    to.set_uid(number + 1)
        .set_name(fmt::format("{}", number))
        .set_dim(list(v.extents))
        .set_stride(list(v.strides))
        .set_data_type(type(v.dtype))
        .set_alignment(v.alignment);
  }

  void add(const Operation& o) {
    const auto in = [&](std::size_t i) { return input(o.inputs[i]); };
    const auto out = [&](std::size_t i, const Tensor& made) { output(o.outputs[i], made); };
    switch (o.kind) {
      case Kind::convolution:
        return out(0, to_.conv_fprop(in(0), in(1), window<fe::graph::Conv_fprop_attributes>(o)));
      case Kind::convolution_backward_input:
        return out(0, to_.conv_dgrad(in(0), in(1), window<fe::graph::Conv_dgrad_attributes>(o)));
      case Kind::convolution_backward_weight:
        return out(0, to_.conv_wgrad(in(0), in(1), window<fe::graph::Conv_wgrad_attributes>(o)));
      case Kind::add:
        return out(0, to_.pointwise(in(0), in(1), pointwise(fe::PointwiseMode_t::ADD)));
      case Kind::subtract:
        return out(0, to_.pointwise(in(0), in(1), pointwise(fe::PointwiseMode_t::SUB)));
      case Kind::multiply:
        return out(0, to_.pointwise(in(0), in(1), pointwise(fe::PointwiseMode_t::MUL)));
      case Kind::reciprocal_root:
        return out(0, to_.pointwise(in(0), pointwise(fe::PointwiseMode_t::RSQRT)));
      case Kind::activate:
        return out(0, to_.pointwise(in(0), activation(o.activation)));
      case Kind::batch_norm: {
        Tensor epsilon = in(3);
        const auto made = to_.batchnorm(in(0), in(1), in(2), fe::graph::Batchnorm_attributes().set_epsilon(epsilon));
        for (std::size_t i = 0; i < 3; ++i) out(i, made[i]);
        return;
      }
      case Kind::batch_norm_backward: {
        auto attributes = fe::graph::Batchnorm_backward_attributes().set_saved_mean_and_inv_variance(in(3), in(4));
        const auto made = to_.batchnorm_backward(in(0), in(1), in(2), attributes);
        for (std::size_t i = 0; i < 3; ++i) out(i, made[i]);
        return;
      }
      case Kind::layer_norm: {
        Tensor epsilon = in(3);
        const auto made = to_.layernorm(
            in(0), in(1), in(2),
            fe::graph::Layernorm_attributes().set_forward_phase(fe::NormFwdPhase_t::TRAINING).set_epsilon(epsilon));
        for (std::size_t i = 0; i < 3; ++i) out(i, made[i]);
        return;
      }
      case Kind::attention: {
        auto attributes = fe::graph::SDPA_attributes();
        attributes.set_name("attention").set_generate_stats(o.outputs[1] >= 0).set_attn_scale(o.scale);
        const auto made = to_.sdpa(in(0), in(1), in(2), attributes);
        for (std::size_t i = 0; i < 2; ++i) out(i, made[i]);
        return;
      }
      case Kind::attention_backward: {
        auto attributes = fe::graph::SDPA_backward_attributes();
        attributes.set_name("attention_backward").set_attn_scale(o.scale).set_deterministic_algorithm(true);
        const auto made = to_.sdpa_backward(in(0), in(1), in(2), in(3), in(4), in(5), attributes);
        for (std::size_t i = 0; i < 3; ++i) out(i, made[i]);
        return;
      }
    }
  }

  template <class Attributes>
  static Attributes window(const Operation& o) {
    return Attributes()
        .set_stride(list(o.stride))
        .set_dilation(list(o.dilation))
        .set_pre_padding(list(o.before))
        .set_post_padding(list(o.after));
  }

  static fe::graph::Pointwise_attributes pointwise(fe::PointwiseMode_t mode) {
    return fe::graph::Pointwise_attributes().set_mode(mode);
  }

  static fe::graph::Pointwise_attributes activation(Activation function) {
    switch (function) {
      case Activation::linear:
        return pointwise(fe::PointwiseMode_t::IDENTITY);
      case Activation::relu:
        return pointwise(fe::PointwiseMode_t::RELU_FWD);
      case Activation::relu6:
        return pointwise(fe::PointwiseMode_t::RELU_FWD).set_relu_upper_clip(6);
      case Activation::sigmoid:
        return pointwise(fe::PointwiseMode_t::SIGMOID_FWD);
      case Activation::tanh:
        return pointwise(fe::PointwiseMode_t::TANH_FWD);
      case Activation::gelu:
        return pointwise(fe::PointwiseMode_t::GELU_FWD);
      case Activation::gelu_tanh:
        return pointwise(fe::PointwiseMode_t::GELU_APPROX_TANH_FWD);
      case Activation::silu:
        return pointwise(fe::PointwiseMode_t::SWISH_FWD).set_swish_beta(1);
    }
    fail("[cudnn] no such activation");
  }

  const OperationGraph& from_;
  fe::graph::Graph& to_;
  std::vector<Tensor> tensors_;
};

std::vector<fe::NumericalNote_t> unwanted(const OperationGraph& graph) {
  std::vector<fe::NumericalNote_t> notes{fe::NumericalNote_t::NONDETERMINISTIC,
                                         fe::NumericalNote_t::REDUCED_PRECISION_REDUCTION, fe::NumericalNote_t::FFT,
                                         fe::NumericalNote_t::WINOGRAD};
  if (!graph.tensor_cores)
    notes.insert(notes.end(), {fe::NumericalNote_t::TENSOR_CORE, fe::NumericalNote_t::DOWN_CONVERT_INPUTS});
  return notes;
}

}  // namespace

struct Compiled::Parts {
  fe::graph::Graph graph;
};

Compiled::Compiled(const OperationGraph& graph, const Target& target) : parts_(std::make_unique<Parts>()) {
  fe::graph::Graph& g = parts_->graph;
  const auto good = [&](fe::error_t status) {
    if (status.is_bad()) why_ = status.get_message();
    return status.is_good();
  };
  g.set_compute_data_type(fe::DataType_t::FLOAT).set_intermediate_data_type(fe::DataType_t::FLOAT);
  if (target.handle == nullptr) g.set_sm_version(target.architecture);
  Translation(graph, g).run();
  if (!good(g.validate())) return;
  stage_ = Stage::valid;
  if (target.handle == nullptr && !target.properties.empty()) {
    const auto properties = std::make_shared<fe::DeviceProperties>();
    if (!good(properties->deserialize({target.properties.begin(), target.properties.end()}))) return;
    g.set_device_properties(properties);
    if (!good(g.build_operation_graph())) return;
  } else if (target.handle == nullptr || !good(g.build_operation_graph(target.handle))) {
    return;
  }
  if (!good(g.create_execution_plans({fe::HeurMode_t::A}))) return;
  g.deselect_numeric_notes(unwanted(graph));
  g.deselect_workspace_greater_than(static_cast<std::int64_t>(kMostWorkspace));
  stage_ = Stage::has_engines;
}

Compiled::~Compiled() = default;

int Compiled::engines() const {
  return stage_ == Stage::has_engines ? static_cast<int>(parts_->graph.get_execution_plan_count()) : 0;
}

std::string Compiled::name(int engine) const {
  std::string text;
  return parts_->graph.get_plan_name_at_index(engine, text).is_good() ? text : "";
}

bool Compiled::build(int engine) {
  fe::error_t status = parts_->graph.build_plan_at_index(engine);
  if (status.is_bad()) why_ = status.get_message();
  return status.is_good();
}

std::size_t Compiled::workspace(int engine) const {
  return static_cast<std::size_t>(parts_->graph.get_workspace_size_plan_at_index(engine));
}

void Compiled::run(cudnnContext* handle, int engine, std::span<void* const> addresses, void* workspace) const {
  std::unordered_map<std::int64_t, void*> pack;
  for (std::size_t i = 0; i < addresses.size(); ++i)
    if (addresses[i] != nullptr) pack.emplace(static_cast<std::int64_t>(i) + 1, addresses[i]);
  fe::error_t status = parts_->graph.execute_plan_at_index(handle, pack, workspace, engine);
  check(status.is_good(), "[cudnn] a plan could not be run: {}", status.get_message());
}

}  // namespace graft::cudnn
