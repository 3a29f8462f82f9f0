#include "train/step_runner.h"

#include "graft/autograd/tape.h"
#include "graft/ops/loss.h"
#include "graft/ops/shape.h"

#include "core/format.h"
#include "nn/batched.h"

namespace graft::train {
namespace {

using Clock = std::chrono::steady_clock;

// Adds the time since `start` to a part of the profile, once the device has done its work.
void note(Profile* profile, const char* part, Clock::time_point start, Device device) {
  if (profile == nullptr) return;
  synchronize(device);
  profile->add(part, std::chrono::duration<double>(Clock::now() - start).count());
}

bool on_cpu(Device device) { return device.kind == Device::Kind::cpu; }

}  // namespace

StepRunner::StepRunner(nn::Network& network, optim::Optimizer& optimizer, const TrainOptions& options)
    : network_(network),
      optimizer_(optimizer),
      options_(options),
      one_by_one_(on_cpu(network.device()) && options.optimizer.clip_norm == 0 && !options.optimizer.loss_scaling),
      uploader_(network.device()),
      random_state_(Tensor::zeros({2}, DType::i64, network.device())) {}

Tensor StepRunner::loss(const Tensor& logits, const Tensor& labels, const Tensor& weights) const {
  return ops::softmax_cross_entropy(logits, labels, {.label_smoothing = options_.label_smoothing, .weights = weights});
}

Tensor StepRunner::weights_of(const Examples& examples) const {
  if (options_.class_weights.empty()) return {};
  std::vector<double> weights;
  for (const std::int64_t label : examples.labels.values<std::int64_t>())
    weights.push_back(options_.class_weights[static_cast<std::size_t>(label)]);
  return Tensor::from({examples.size()}, weights).to(exact(options_.precision));
}

// All that a step depends on.
std::string StepRunner::key_of(const Examples& examples) const {
  const Context& context = Context::current();
  std::string key = fmt::format("{} {} {}", name(context.engine), context.allow_tf32, context.allow_unproved);
  for (const auto& [node, value] : examples.values) key += fmt::format(" {}:{}{}", node, value.dtype(), value.shape());
  for (const nn::NodeEntry& node : network_.nodes())
    key += fmt::format(" {}({})", node.layer, fmt::join(node.inputs, ","));
  for (const nn::LayerEntry& layer : network_.layers()) {
    key += fmt::format(" {}", fmt::ptr(layer.layer));
    key += layer.trainable ? 't' : 'f';
    key += layer.statistics == nn::Statistics::batch ? 'b' : 'm';
  }
  for (const auto& [name, parameter] : network_.parameter_table()) key += fmt::format(" {}", parameter->value.raw());
  return key;
}

// The batch and its random state, to where the step reads them.
void StepRunner::bring(const Examples& examples, Generator generator, Variant& variant) {
  const auto bring = [&](Tensor& to, const Tensor& from) {
    if (on_cpu(network_.device())) {
      to = from;
      return;
    }
    if (!to.defined()) to = Tensor::empty(from.shape(), from.dtype(), network_.device());
    uploader_.upload(to, from.raw());
  };
  for (const auto& [node, value] : examples.values)
    bring(variant.inputs.values[node], is_floating(value.dtype()) ? value.to(options_.precision) : value);
  bring(variant.inputs.labels, examples.labels);
  if (const Tensor weights = weights_of(examples); weights.defined()) bring(variant.weights, weights);
  variant.inputs.indices = examples.indices;
  const std::int64_t state[] = {static_cast<std::int64_t>(generator.seed), static_cast<std::int64_t>(generator.offset)};
  uploader_.upload(random_state_, state);
}

void StepRunner::compile(Variant& variant, const std::map<std::string, Tensor>& values) {
  plan::TrainingOptions options{.dtype = options_.precision,
                                .label_smoothing = options_.label_smoothing,
                                .weights = variant.weights.defined(),
                                .hand_over = one_by_one_,
                                .given = {},
                                .memory_limit = options_.memory_limit};
  for (const nn::LayerEntry& layer : network_.layers()) variant.layers.push_back(layer.layer);
  const std::string& input = network_.nodes().front().name;
  for (const auto& [node, value] : values) {
    if (node != input) options.given.emplace(node, value.spec());
  }
  variant.plan = plan::compile_training(network_, nn::batched(network_.input_shape(), variant.inputs.size()), options);
}

void StepRunner::compute(Variant& variant, Metrics& metrics, Profile* profile, bool recorded) {
  optimizer_.zero_grad();
  ContextScope scope;
  scope->generator = {};
  scope->random_state = static_cast<const std::int64_t*>(random_state_.raw());
  const autograd::NoGrad off;
  plan::TrainingPlan::Batch batch{
      values_of(variant.inputs, network_, options_.precision), variant.inputs.labels, variant.weights, {}};
  if (!variant.plan) compile(variant, batch.given);
  if (options_.optimizer.loss_scaling) batch.seed = ops::cast(optimizer_.loss_scale(), exact(options_.precision));
  plan::Observe observe;
  if (profile != nullptr) observe = [profile](const plan::Step& step, double seconds) { profile->add(step, seconds); };
  if (one_by_one_) {
    batch.after_loss = [this](const Tensor& loss) { optimizer_.begin(loss); };
    batch.hand_over = [this](const std::string& name, const Tensor& gradient) { optimizer_.update(name, gradient); };
  }
  const auto [loss, logits] = variant.plan->run(batch, observe);
  metrics.add(logits, variant.inputs.labels, loss);
  if (one_by_one_) return;

  const auto start = Clock::now();
  variant.step = optimizer_.prepare();
  if (!recorded) optimizer_.advance(variant.step);
  optimizer_.launch(variant.step, loss);
  note(profile, "optimizer", start, network_.device());
}

void StepRunner::run(const Examples& examples, Generator generator, Metrics& metrics, Profile* profile) {
  Variant& variant = variants_[key_of(examples)];
  bring(examples, generator, variant);
  if (!Graph::wanted(network_.device()) || profile != nullptr || !options_.record_steps || !variant.seen) {
    compute(variant, metrics, profile, false);
    if (!variant.recording) variant.step = {};
    variant.seen = true;
    return;
  }
  network_.round_weights(options_.precision);
  if (!variant.recording)
    variant.recording = Graph::record(network_.device(), [&] { compute(variant, metrics, profile, true); });
  optimizer_.advance(variant.step, [this](const Tensor& to, const void* from) { uploader_.upload(to, from); });
  variant.recording->replay(Context::current().stream);
}

}  // namespace graft::train
