#include "graft/train/trainer.h"

#include <chrono>
#include <cmath>
#include <span>

#include "graft/io/network_file.h"
#include "graft/ops/loss.h"

#include "core/format.h"
#include "train/checkpoint.h"
#include "train/diagnose.h"
#include "train/hash.h"
#include "train/options.h"
#include "train/prepare.h"
#include "train/profile.h"
#include "train/progress.h"
#include "train/run_files.h"
#include "train/step_runner.h"

namespace graft::train {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

json data_summary(const Source* source, const std::string& photos) {
  if (source == nullptr) return {{"examples", 0}};
  std::map<Index, Index> count;
  for (const Index label : source->labels()) ++count[label];
  json by_class = json::object();
  for (const auto& [label, examples] : count) by_class[std::to_string(label)] = examples;
  json summary{{"examples", source->size()},
               {"by_class", by_class},
               {"labels", hash_of(Tensor::from({source->size()}, source->labels()))}};
  if (!photos.empty()) summary["photos"] = photos;
  return summary;
}

// Of names and sizes: photos are not read for it, and a folder that was moved holds the same ones.
std::string photos_hash(const data::ImageFolder& photos) {
  std::string all;
  for (const std::filesystem::path& file : photos.files) {
    std::error_code none;
    all += fmt::format("{} {}\n", file.filename().string(), std::filesystem::file_size(file, none));
  }
  return hash_of(std::as_bytes(std::span(all)));
}

std::vector<EpochRecord> records_of(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  try {
    std::vector<EpochRecord> records;
    for (const json& record : checkpoint.facts.at("epochs")) records.push_back(record_from_json(record));
    return records;
  } catch (const json::exception& error) {
    fail("{}: the checkpoint's epochs cannot be read: {}", path.string(), error.what());
  }
}

// Without the sign that a NaN has by chance.
std::string loss_text(double loss) { return std::isnan(loss) ? "nan" : fmt::format("{}", loss); }

// How long a device may go on after a step that went wrong.
constexpr double kCheckSeconds = 1;

TrainOptions with_loss_scaling(TrainOptions options) {
  options.optimizer.loss_scaling = options.precision == DType::f16;
  return options;
}

Scores scores_of(const Metrics& metrics) { return {metrics.loss(), metrics.top1(), metrics.top5()}; }

}  // namespace

const EpochRecord& Report::best() const {
  check(best_epoch >= 1, "[train] the run has no epoch");
  return epochs[static_cast<std::size_t>(best_epoch - 1)];
}

class Trainer::Impl {
 public:
  Impl(nn::Network& network, Data data, TrainOptions options)
      : network_(network),
        options_(with_loss_scaling(std::move(options))),
        data_(std::move(data)),
        files_(options_.out),
        optimizer_(options_.optimizer, parameter_groups(network, options_)),
        steps_(network, optimizer_, options_),
        display_(options_.progress, options_.epochs, data_.train->batches()) {
    check_labels(network_, *data_.train, options_);
    if (data_.validation) check_labels(network_, *data_.validation, options_);
    frozen_part(network_, options_.precision);  // throws if nothing is trainable
    schedule_ = schedule_of(options_, data_.train->batches());
    if (options_.profile) profile_.emplace();

    report_.features = data_.line;
    report_.frozen_seconds = data_.frozen_seconds;
    report_.frozen_hashes = frozen_hashes(network_);
    for (const nn::Parameter* parameter : network_.parameters()) {
      if (!report_.frozen_hashes.contains(parameter->name)) changing_.push_back(parameter->name);
    }
    facts_ = {{"versions", versions_json(network_.device())},
              {"options", to_json(options_)},
              {"data",
               {{"train", data_summary(data_.train.get(), data_.train_hash)},
                {"validation", data_summary(data_.validation.get(), data_.validation_hash)}}},
              {"frozen", report_.frozen_hashes},
              {"layers", layers_json(network_)}};
    facts_["options"].update(kernel_options_json(network_.device()));
  }

  Report run() {
    start_ = Clock::now();
    if (files_) open_folder();
    display_.start(done());
    first_step_ = done() * data_.train->batches();
    auto last_checkpoint = Clock::now();
    while (done() < options_.epochs && !out_of_patience()) {
      const bool best = run_epoch();
      if (files_ && seconds_since(last_checkpoint) >= options_.checkpoint_seconds) {
        write_checkpoint_files();
        write_summary("running");
        last_checkpoint = Clock::now();
      }
      display_.epoch(report_.epochs.back(), best);
    }
    check_unchanged(network_, report_.frozen_hashes);
    report_.stopped_early = done() < options_.epochs;
    if (data_.validation && report_.confusion.empty()) {
      report_.confusion = evaluate(network_, *data_.validation, options_.precision).confusion();
    }
    if (profile_) report_.profile = profile_->table();
    report_.seconds = seconds();
    if (files_) {
      write_checkpoint_files();
      io::save_network(network_, files_.last(), {{"epoch", std::to_string(done())}});
      write_summary(report_.stopped_early ? "stopped early" : "finished");
    }
    return report_;
  }

 private:
  Index done() const { return static_cast<Index>(report_.epochs.size()); }
  double seconds() const { return report_.frozen_seconds + seconds_since(start_); }
  bool out_of_patience() const { return options_.patience > 0 && done() - report_.best_epoch >= options_.patience; }

  void open_folder() {
    if (std::filesystem::exists(files_.checkpoint())) resume();
    files_.make_folder();
  }

  void resume() {
    Checkpoint checkpoint = read_checkpoint(files_.checkpoint());
    check_same_run(files_.checkpoint(), checkpoint.facts, facts_);
    for (const Tensors* part : {&checkpoint.weights, &checkpoint.best}) {
      for (const std::string& name : changing_) {
        const auto found = part->find(name);
        const Spec expected = network_.parameter(name).value.spec();
        check(found != part->end(), "{}: expected parameter '{}', got none", files_.checkpoint().string(), name);
        check(found->second.spec() == expected, "{}: expected parameter '{}' as {} {}, got {} {}",
              files_.checkpoint().string(), name, expected.dtype, expected.shape, found->second.dtype(),
              found->second.shape());
      }
    }
    for (const EpochRecord& record : records_of(files_.checkpoint(), checkpoint)) append(record);
    restore(network_, checkpoint.weights);
    optimizer_.set_state(checkpoint.optimizer);
    best_ = std::move(checkpoint.best);
    display_.say(fmt::format("resumed after epoch {} from {}", done(), files_.checkpoint().string()));
    if (const std::string others = other_versions(checkpoint.facts, facts_); !others.empty())
      display_.say(fmt::format("the run was made with other versions, whose sums may end in other bits: {}", others));
  }

  /// Whether it is the best so far.
  bool append(const EpochRecord& record) {
    report_.epochs.push_back(record);
    const bool best = done() == 1 || is_better(record, report_.best());
    if (best) report_.best_epoch = done();
    return best;
  }

  bool run_epoch() {
    EpochRecord record;
    record.epoch = done() + 1;
    const auto start = Clock::now();
    Index examples_done = 0;
    auto last_check = start;
    metrics_.reset();
    data_.train->start_epoch(static_cast<std::uint64_t>(done()));
    for (Index step = 0;; ++step) {
      const auto waiting = Clock::now();
      const auto examples = data_.train->next();
      if (profile_) profile_->add("data", seconds_since(waiting));
      if (!examples) break;
      train_step(*examples, step);
      examples_done += examples->size();
      if (network_.device().kind == Device::Kind::cpu || seconds_since(last_check) >= kCheckSeconds) {
        check_steps();
        last_check = Clock::now();
      }
      record.images_per_second = static_cast<double>(examples_done) / seconds_since(start);
      display_.step(done(), step + 1, metrics_, record.images_per_second);
      if (options_.after_step) options_.after_step(done(), step);
    }
    check_steps();
    record.images_per_second = static_cast<double>(examples_done) / seconds_since(start);
    record.learning_rate = optimizer_.learning_rate();
    record.train = scores_of(metrics_);
    if (data_.validation) {
      const Metrics validation = evaluate(network_, *data_.validation, options_.precision);
      if (!std::isfinite(validation.loss())) stop_after_validation(validation.loss());
      record.validation = scores_of(validation);
      report_.confusion = validation.confusion();
    }
    record.seconds = seconds_since(start);
    const bool best = append(record);
    if (best) best_ = snapshot(network_, changing_);
    if (files_) log(record);
    return best;
  }

  // The file is begun with the first epoch of this start, so that a run which fails before leaves nothing behind, and
  // one that was killed leaves no lines of epochs that come again.
  void log(const EpochRecord& record) {
    if (logging_)
      files_.append_to_log(record);
    else
      files_.rewrite_log(report_.epochs);
    logging_ = true;
  }

  void train_step(const Examples& examples, Index step) {
    const Index number = done() * data_.train->batches() + step;
    optimizer_.set_factor(factor(schedule_, number));
    steps_.run(examples, generator_of(number), metrics_, profile_ ? &*profile_ : nullptr);
  }

  // Stops if a step since the start of the epoch went wrong: none after it has changed anything.
  void check_steps() {
    const std::optional<Index> failed = optimizer_.outcome().failed;
    if (!failed) return;
    const Index number = first_step_ + *failed, step = number - done() * data_.train->batches();
    optimizer_.set_factor(factor(schedule_, number));
    data_.train->start_epoch(static_cast<std::uint64_t>(done()));
    for (Index i = 0; i < step; ++i) data_.train->next();
    stop(data_.train->next().value(), number, step);
  }

  // What a step draws depends on its number alone.
  Generator generator_of(Index number) const {
    constexpr std::uint64_t kPurpose = 3;  // of a split of the seed; order and augmentation have others
    return Generator{.seed = options_.seed}.split(kPurpose).split(static_cast<std::uint64_t>(number));
  }

  [[noreturn]] void stop(const Examples& examples, Index number, Index step) {
    ContextScope scope;
    const auto loss = [this](const Tensor& logits, const Examples& batch) {
      return steps_.loss(logits, batch.labels, steps_.weights_of(batch));
    };
    scope->generator = generator_of(number);
    const double value =
        loss(train::run(network_, examples, options_.precision, {.training = true}).logits, examples).item();
    scope->generator = generator_of(number);
    diverged(fmt::format("{} in epoch {}, step {}",
                         std::isfinite(value) ? "a gradient is not finite" : "the loss is " + loss_text(value),
                         done() + 1, step + 1),
             first_non_finite(network_, examples, options_.precision, loss, true));
  }

  [[noreturn]] void stop_after_validation(double loss) {
    const autograd::NoGrad off;
    const auto plain = [](const Tensor& logits, const Examples& batch) {
      return ops::softmax_cross_entropy(logits, batch.labels);
    };
    std::string where = "every batch's is finite when it is computed again";
    data_.validation->start_epoch(0);
    while (const auto examples = data_.validation->next()) {
      const Tensor logits = train::run(network_, *examples, options_.precision).logits;
      if (std::isfinite(plain(logits, *examples).item())) continue;
      where = first_non_finite(network_, *examples, options_.precision, plain, false);
      break;
    }
    diverged(fmt::format("the validation loss is {} after epoch {}", loss_text(loss), done() + 1), where);
  }

  /// Says what went wrong where, and leaves the best network so far and the record of the run.
  [[noreturn]] void diverged(const std::string& what, const std::string& where) {
    const std::string error =
        fmt::format("[train] {}, at learning rate {}: {}", what, optimizer_.learning_rate(), where);
    if (!files_ || report_.epochs.empty()) fail("{}", error);
    write_best();
    write_summary("diverged", error);
    fail("{}; {} is the network of epoch {}, before that", error, files_.best().string(), report_.best_epoch);
  }

  void write_best() {
    if (written_best_ == report_.best_epoch) return;
    const Tensors now = snapshot(network_, changing_);
    restore(network_, best_);
    io::save_network(network_, files_.best(), {{"epoch", std::to_string(report_.best_epoch)}});
    restore(network_, now);
    written_best_ = report_.best_epoch;
  }

  void write_checkpoint_files() {
    if (report_.epochs.empty()) return;
    write_best();
    Checkpoint checkpoint{
        .facts = facts_, .weights = snapshot(network_, changing_), .best = best_, .optimizer = optimizer_.state()};
    checkpoint.facts["epochs"] = json::array();
    for (const EpochRecord& record : report_.epochs) checkpoint.facts["epochs"].push_back(to_json(record));
    write_checkpoint(files_.checkpoint(), checkpoint);
  }

  void write_summary(std::string_view status, const std::string& error = {}) const {
    json summary = facts_;
    Index trained = 0;
    for (const optim::Group& group : optimizer_.groups()) {
      for (const optim::NamedTensor& parameter : group.parameters) trained += parameter.value.elements();
    }
    summary["network"] = {{"name", network_.name},
                          {"classes", network_.classes},
                          {"parameters", network_.parameter_count()},
                          {"trainable", trained}};
    summary["frozen_features"] = report_.features;
    summary["device"] = network_.device().to_string();
    summary["threads"] = threads();
    summary["status"] = status;
    if (!error.empty()) summary["error"] = error;
    summary["results"] = {{"best_epoch", report_.best_epoch},
                          {"best", to_json(report_.best())},
                          {"last", to_json(report_.epochs.back())},
                          {"confusion", report_.confusion},
                          {"seconds", seconds()},
                          {"frozen_seconds", report_.frozen_seconds}};
    files_.write_summary(summary);
  }

  nn::Network& network_;
  TrainOptions options_;
  Data data_;
  RunFiles files_;
  optim::Optimizer optimizer_;
  StepRunner steps_;
  Metrics metrics_;       // of the epoch in training
  Index first_step_ = 0;  // of this start
  ProgressDisplay display_;
  optim::Schedule schedule_;
  std::optional<Profile> profile_;
  json facts_;
  std::vector<std::string> changing_;  // parameters and statistics that are not frozen
  Report report_;
  Clock::time_point start_;
  Tensors best_;
  Index written_best_ = 0;
  bool logging_ = false;
};

Trainer::Trainer(nn::Network& network, const data::ImageFolder& train, const data::ImageFolder& validation,
                 TrainOptions options) {
  check_options(options);
  parameter_groups(network, options);  // for its errors, before the work
  Data data = prepare(network, train, validation, options);
  if (!options.out.empty()) {
    data.train_hash = photos_hash(train);
    data.validation_hash = photos_hash(validation);
  }
  impl_ = std::make_unique<Impl>(network, std::move(data), std::move(options));
}

Trainer::Trainer(nn::Network& network, std::unique_ptr<Source> train, std::unique_ptr<Source> validation,
                 TrainOptions options) {
  check_options(options);
  check(train != nullptr && train->size() > 0, "[train] expected examples to train on, got none");
  impl_ = std::make_unique<Impl>(network, Data{std::move(train), std::move(validation)}, std::move(options));
}

Trainer::~Trainer() = default;

Report Trainer::run() { return impl_->run(); }

}  // namespace graft::train
