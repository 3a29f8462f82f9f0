#include <cstdlib>
#include <cstring>

#include <gtest/gtest.h>

#include "graft/core/graph.h"
#include "graft/ops/shape.h"
#include "graft/plan/plan.h"
#include "graft/train/evaluate.h"

#include "core/downloader.h"
#include "core/uploader.h"
#include "kernels/optimizer.h"
#include "kernels/predictions.h"
#include "runtime/launches.h"
#include "support/expect.h"
#include "support/op_check.h"
#include "train/border.h"
#include "train/samples.h"

namespace graft {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using train::TrainOptions;

TrainOptions options_for_device(bool record, DType precision = DType::f32) {
  TrainOptions options = test::quick_options();
  options.epochs = 2;
  options.batch = 20;  // of 48: two batches, and a shorter one
  options.precision = precision;
  options.record_steps = record;
  options.schedule = {.kind = optim::Schedule::Kind::cosine, .warmup = 2};
  options.class_weights = {1, 2};
  return options;
}

struct Trained {
  train::Report report;
  nn::Network network;
};

Trained train_on(Device device, const TrainOptions& options, double dropout = 0.25) {
  nn::Network network = test::small_network(dropout);
  network.to(device);
  train::Trainer trainer(
      network, train::memory_source(test::stripe_features(48, 1), {.batch = options.batch, .shuffle = true, .seed = 3}),
      train::memory_source(test::stripe_features(16, 2), {.batch = options.batch}), options);
  Trained result{trainer.run(), {}};
  network.to(Device{});
  result.network = network;
  return result;
}

// The same random numbers, schedule and order: what differs is the order of sums.
TEST(TrainerOnADevice, TrainsAsOnTheCpu) {
  TrainOptions options = options_for_device(true);
  options.optimizer = {.algorithm = optim::Algorithm::sgd, .learning_rate = 0.05, .momentum = 0.9, .clip_norm = 2};
  Trained cpu = train_on({}, options);
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    Trained there = train_on(device, options);
    EXPECT_LT(test::largest_difference(there.network, cpu.network), 1e-4);
    for (std::size_t i = 0; i < cpu.report.epochs.size(); ++i) {
      EXPECT_NEAR(there.report.epochs[i].train.loss, cpu.report.epochs[i].train.loss, 1e-4);
      EXPECT_EQ(there.report.epochs[i].train.top1, cpu.report.epochs[i].train.top1);
    }
    EXPECT_EQ(there.report.confusion, cpu.report.confusion);
  }
}

// A recording is the same kernels on the same memory, so a replay gives the same bits: with dropout drawn anew, rates
// that change, moments, halves and a scaled loss.
TEST(TrainerOnADevice, ARecordedStepEqualsAnEagerOne) {
  for (const Device device : test::devices()) {
    for (const DType precision : {DType::f32, DType::bf16, DType::f16}) {
      SCOPED_TRACE(device.to_string() + " " + std::string(name(precision)));
      Trained eager = train_on(device, options_for_device(false, precision));
      Trained recorded = train_on(device, options_for_device(true, precision));
      EXPECT_EQ(test::bytes_of(recorded.network), test::bytes_of(eager.network));
      for (std::size_t i = 0; i < eager.report.epochs.size(); ++i)
        EXPECT_EQ(recorded.report.epochs[i].train.loss, eager.report.epochs[i].train.loss);
    }
  }
}

// The same parameters, and another activation behind the first convolution.
void replace_activation(nn::Network& network) {
  std::string graph = network.to_json();
  const std::string relu = R"("relu")";
  nn::Network other = nn::Network::from_json(graph.replace(graph.find(relu), relu.size(), R"("gelu")"));
  other.to(network.device());
  for (const auto& [name, parameter] : network.parameter_table()) other.parameter(name).value = parameter->value;
  network = other;
}

// A recorded step knows what was computed and trainable then, which statistics were taken and whose kernels ran: after
// a change of any of these between two steps another one is recorded.
TEST(TrainerOnADevice, RecordsAnewAfterAChange) {
  const std::map<std::string, std::function<void(nn::Network&)>> changes{
      {"nothing", [](nn::Network&) {}},
      {"frozen", [](nn::Network& network) { network.freeze("conv1"); }},
      {"statistics", [](nn::Network& network) { network.use_statistics(ops::Statistics::moving); }},
      {"topology", replace_activation},
      {"engine", [](nn::Network&) { Context::current().engine = Engine::native; }},
      {"TF32", [](nn::Network&) { Context::current().allow_tf32 = true; }}};
  for (const Device device : test::devices()) {
    std::map<std::string, std::string> bytes;
    for (const auto& named : changes) {
      const std::string& what = named.first;
      const std::function<void(nn::Network&)>& change = named.second;
      SCOPED_TRACE(device.to_string() + ", " + what);
      const auto train = [&](bool record) {
        const ContextScope scope;
        nn::Network network = test::small_network();
        network.use_statistics(ops::Statistics::batch);
        network.to(device);
        TrainOptions options = options_for_device(record);
        options.epochs = 4;
        options.batch = 4;
        options.after_step = [&](Index epoch, Index step) {
          if (epoch == 2 && step == 1) change(network);
        };
        train::Trainer(network, train::memory_source(test::stripe_features(8, 1), {.batch = options.batch}),
                       train::memory_source(test::stripe_features(4, 2), {.batch = options.batch}), options)
            .run();
        network.to(Device{});
        return test::bytes_of(network);
      };
      const auto eager = train(false), recorded = train(true);
      EXPECT_EQ(recorded, eager);
      for (const auto& [name, value] : eager) bytes[what] += value;
    }
    EXPECT_NE(bytes["frozen"], bytes["nothing"]);
    EXPECT_NE(bytes["statistics"], bytes["nothing"]);
    EXPECT_NE(bytes["topology"], bytes["nothing"]);
  }
}

TEST(TrainerOnADevice, ResumesToTheSameBits) {
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    const test::TemporaryFolder folder("device_resume");
    TrainOptions options = options_for_device(true, DType::f16);
    Trained whole = train_on(device, options);
    options.out = folder.path();
    struct Killed {};
    options.after_step = [](Index epoch, Index step) {
      if (epoch == 1 && step == 1) throw Killed();
    };
    EXPECT_THROW(train_on(device, options), Killed);
    options.after_step = {};
    options.resume = true;
    Trained resumed = train_on(device, options);
    EXPECT_EQ(test::bytes_of(resumed.network), test::bytes_of(whole.network));
  }
}

// Later steps were queued by the time anybody looks, and have changed nothing.
TEST(TrainerOnADevice, NamesTheStepThatWentWrong) {
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    nn::Network network = test::small_network();
    network.freeze("bn1");
    network.to(device);
    TrainOptions options = test::quick_options();
    options.after_step = [&](Index epoch, Index step) {
      if (epoch == 1 && step == 2) network.parameter("conv2/weight").value.fill(3e38);
    };
    try {
      test::stripe_trainer(network, options).run();
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr("the loss is"), HasSubstr("in epoch 2, step 4"),
                                      HasSubstr("comes from layer 'conv2' (conv2d)")));
    }
  }
}

// A replay changes moving statistics as a step does that is not recorded: a plan that folded them folds them again.
TEST(TrainerOnADevice, PlansNoticeTheStatisticsOfAReplay) {
  const Tensor images = test::stripe_features(2, 4)->values.at("input");
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    nn::Network network = test::small_network();
    network.freeze("conv1");
    network.freeze("bn1");
    network.use_statistics(ops::Statistics::batch);
    network.to(device);
    const plan::Inference kept(network);
    const auto difference = [&] {
      const Tensor got = kept.run(images).front().to(Device{}),
                   want = plan::Inference(network).run(images).front().to(Device{});
      return std::memcmp(got.raw(), want.raw(), want.bytes());
    };
    TrainOptions options = options_for_device(true);
    options.after_step = [&](Index epoch, Index step) { EXPECT_EQ(difference(), 0) << epoch << ", " << step; };
    test::stripe_trainer(network, options).run();
  }
}

// Launches of the third step of a shape.
std::int64_t launches_of_a_step(Device device) {
  TrainOptions options = options_for_device(true);
  options.batch = 16;
  options.class_weights = {};
  std::int64_t before = 0, launches = 0;
  const auto count = [] {
    std::int64_t all = 0;
    for (const auto& [kernel, times] : launch_counts()) all += times;
    return all;
  };
  options.after_step = [&](Index epoch, Index step) {
    if (epoch == 0 && step == 1) before = count();
    if (epoch == 0 && step == 2) launches = count() - before;
  };
  train_on(device, options);
  return launches;
}

// What a replay costs the host is a launch and three uploads, whatever the network. Kernels that are waited for one by
// one are launched one by one.
TEST(TrainerOnADevice, AReplayLaunchesNothingByItself) {
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    EXPECT_EQ(launches_of_a_step(device), 0);
    setenv("GRAFT_CUDA_WAIT", "1", 1);
    EXPECT_GT(launches_of_a_step(device), 0);
    unsetenv("GRAFT_CUDA_WAIT");
  }
}

// f16 ends at 65504: a scaled gradient beyond it costs a step and half of the scale, and no weight.
TEST(LossScaling, LeavesOutAStepThatOverflowed) {
  std::vector<Device> everywhere = test::devices();
  everywhere.emplace_back();
  for (const Device device : everywhere) {
    SCOPED_TRACE(device.to_string());
    Tensor w = Tensor::from<float>({3}, {1, 2, 3}).to(device);
    optim::Optimizer optimizer({.algorithm = optim::Algorithm::sgd, .learning_rate = 0.5, .loss_scaling = true},
                               {{.parameters = {{"w", w}}}});
    const double scale = optimizer.loss_scale().item();
    EXPECT_EQ(scale, 65536);
    w.set_grad(Tensor::from<float>({3}, {0, INFINITY, 0}).to(device));
    optimizer.step();
    EXPECT_EQ(w.to(Device{}).data<float>()[0], 1);
    EXPECT_EQ(optimizer.loss_scale().item(), scale / 2);
    EXPECT_EQ(optimizer.outcome().skipped, 1);
    EXPECT_FALSE(optimizer.outcome().failed);
    const auto slope = static_cast<float>(scale / 2);
    w.set_grad(Tensor::from<float>({3}, {slope, 0, 0}).to(device));
    optimizer.step();
    EXPECT_EQ(w.to(Device{}).data<float>()[0], 0.5);
    EXPECT_EQ(optimizer.outcome().gradient_norm, 1);
  }
}

// The update writes the weights and their rounded copies in one pass.
TEST(RoundedWeights, FollowTheirMasters) {
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    nn::Network network = test::small_network();
    network.to(device);
    network.round_weights(DType::bf16);
    Tensor w = network.parameter("conv2/weight").value;
    ASSERT_TRUE(Operand(w).half(DType::bf16));
    w.set_grad(test::random_normal(w.shape(), 3).to(DType::f32).to(device));
    optim::Optimizer optimizer({.learning_rate = 0.1}, {{.parameters = {{"w", w}}}});
    optimizer.step();
    const Storage::Rounded* const kept = w.storage()->rounded();
    ASSERT_NE(kept, nullptr);
    const Tensor copy = Tensor::over(kept->copy, 0, w.shape(), DType::bf16).to(Device{}),
                 want = w.to(Device{}).to(DType::bf16);
    EXPECT_EQ(std::memcmp(copy.raw(), want.raw(), want.bytes()), 0);
    w.fill(1);
    EXPECT_EQ(Operand(w).half(DType::bf16), nullptr);
  }
}

// The source may change at once, whenever the device gets to the copy.
TEST(Uploads, KeepWhatTheyWereGiven) {
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    Uploader uploader(device);
    const Tensor to = Tensor::empty({4}, DType::i32, device);
    std::vector<Tensor> seen;
    std::vector<std::int32_t> values(4);
    for (std::int32_t step = 0; step < 7; ++step) {
      values.assign(4, step);
      uploader.upload(to, values.data());
      seen.push_back(to.clone());
    }
    values.assign(4, -1);
    for (std::int32_t step = 0; step < 7; ++step)
      EXPECT_EQ(seen[static_cast<std::size_t>(step)].to(Device{}).data<std::int32_t>()[3], step);
  }
}

TEST(Uploads, OfNewTensorsKeepThem) {
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    Uploader uploader(device);
    std::vector<Tensor> there;
    for (int step = 0; step < 7; ++step) {
      Tensor here = Tensor::full({step % 2 + 1, 3}, step, DType::i32);
      there.push_back(uploader.upload(here));
      here.fill(-1);
    }
    for (int step = 0; step < 7; ++step) {
      const Tensor back = there[static_cast<std::size_t>(step)].to(Device{});
      EXPECT_EQ(back.shape(), (Shape{step % 2 + 1, 3}));
      for (const std::int32_t value : back.values<std::int32_t>()) EXPECT_EQ(value, step);
    }
    EXPECT_EQ(uploader.upload(there[0]).raw(), there[0].raw()) << "it was there";
  }
  const Tensor here = Tensor::full({3}, 1);
  EXPECT_EQ(Uploader(Device{}).upload(here).raw(), here.raw());
}

// In order and whole, though nobody else keeps the tensors: several at once, of bytes too, in batches that grow.
TEST(Downloads, AreHandedOverOneBatchLate) {
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    Downloader downloader(device);
    std::vector<Index> used;
    for (Index step = 0; step < 7; ++step) {
      const Shape rows{step % 4 + 1, 3};
      downloader.download({Tensor::full(rows, static_cast<double>(step), DType::u8, device),
                           Tensor::full(rows, static_cast<double>(-step), DType::f32, device)},
                          [&used, step, rows](std::span<const Tensor> values) {
                            used.push_back(step);
                            ASSERT_EQ(values.size(), 2u);
                            EXPECT_EQ(values[0].shape(), rows);
                            for (const std::uint8_t value : values[0].values<std::uint8_t>()) EXPECT_EQ(value, step);
                            for (const float value : values[1].values<float>())
                              EXPECT_EQ(value, static_cast<float>(-step));
                          });
      EXPECT_EQ(static_cast<Index>(used.size()), step);
    }
    downloader.finish();
    EXPECT_THAT(used, testing::ElementsAre(0, 1, 2, 3, 4, 5, 6));
    downloader.finish();
    EXPECT_EQ(used.size(), 7u);
  }
}

TEST(Downloads, OnTheCpuAreWhatTheyWere) {
  Downloader downloader({});
  const Tensor value = Tensor::full({3}, 2);
  const void* seen = nullptr;
  downloader.download({value}, [&](std::span<const Tensor> values) { seen = values[0].raw(); });
  EXPECT_EQ(seen, value.raw());
}

TEST(Downloads, ThatNobodyWantsAreWaitedFor) {
  for (const Device device : test::devices()) {
    Downloader downloader(device);
    for (int step = 0; step < 2; ++step)
      downloader.download({Tensor::full({1000}, 1, DType::f32, device)}, [](std::span<const Tensor>) {});
  }
}

// Says when a batch was asked for.
class Noted final : public train::Source {
 public:
  Noted(std::unique_ptr<train::Source> source, std::string& log) : source_(std::move(source)), log_(log) {}
  const std::vector<Index>& labels() const override { return source_->labels(); }
  Index batches() const override { return source_->batches(); }
  void start_epoch(std::uint64_t epoch) override { source_->start_epoch(epoch); }
  std::optional<train::Examples> next() override {
    auto examples = source_->next();
    log_ += examples ? 'n' : '.';
    return examples;
  }

 private:
  std::unique_ptr<train::Source> source_;
  std::string& log_;
};

// What is given belongs to the border too where a trainable layer reads it.
nn::Network network_that_trains_beside(Device device) {
  nn::Builder b({.height = 12, .width = 12});
  const auto frozen = b.add("frozen", nn::Conv2d({.out = 4, .kernel = 3, .padding = kSame}), b.input());
  const auto own = b.add("own", nn::Conv2d({.out = 4, .kernel = 3, .padding = kSame}), b.input());
  const auto pool = b.add("pool", nn::GlobalAveragePool(), b.add("both", nn::Concat(), {frozen, own}));
  nn::Network network = b.build(b.add("head", nn::Linear({.out = 2}), pool));
  network.freeze("frozen");
  network.materialize();
  network.to(device);
  return network;
}

// Recorded, where what is given is copied, and not, where it is handed on.
TEST(FeaturePass, GivesWhatEachBatchGivesAlone) {
  const auto features = test::stripe_features(22, 1);
  std::vector<Device> everywhere = test::devices();
  everywhere.emplace_back();
  const autograd::NoGrad off;
  for (const Device device : everywhere) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      for (const char* wait : {"0", "1"}) {
        SCOPED_TRACE(device.to_string() + " " + std::string(name(dtype)) + " " + wait);
        setenv("GRAFT_CUDA_WAIT", wait, 1);
        nn::Network network = network_that_trains_beside(device);
        const train::FrozenPart part = train::frozen_part(network, dtype);
        ASSERT_THAT(part.border, testing::ElementsAre("input", "frozen"));
        const plan::Inference alone(network, {.dtype = dtype, .outputs = part.border, .given = {}});
        std::string log;
        Noted source(train::memory_source(features, {.batch = 4, .shuffle = true, .seed = 3}), log);
        const auto again = train::memory_source(features, {.batch = 4, .shuffle = true, .seed = 3});
        again->start_epoch(2);
        train::for_each_border(
            network, part, source, 2, dtype, [&](std::span<const Index> at, std::span<const Tensor> values) {
              log += 's';
              const auto examples = again->next();
              EXPECT_EQ(std::vector(at.begin(), at.end()), examples->indices);
              const std::vector<Tensor> want = alone.run(train::values_of(*examples, network, dtype));
              for (std::size_t i = 0; i < want.size(); ++i) {
                ASSERT_EQ(values[i].spec(), want[i].spec());
                EXPECT_EQ(std::memcmp(values[i].raw(), want[i].to(Device{}).raw(), want[i].bytes()), 0);
              }
            });
        EXPECT_EQ(log, device == Device{} ? "nsnsnsnsnsns." : "nnsnsnsnsns.s");
        unsetenv("GRAFT_CUDA_WAIT");
      }
    }
  }
}

TEST(Evaluate, OnADeviceAsOnTheCpu) {
  const auto features = test::stripe_features(22, 1);
  nn::Network network = test::small_network();
  const auto source = train::memory_source(features, {.batch = 4});
  const train::Metrics cpu = train::evaluate(network, *source);
  for (const Device device : test::devices()) {
    SCOPED_TRACE(device.to_string());
    network.to(device);
    const train::Metrics there = train::evaluate(network, *source);
    EXPECT_EQ(there.count(), 22);
    EXPECT_EQ(there.confusion(), cpu.confusion());
    EXPECT_NEAR(there.loss(), cpu.loss(), 1e-6);
  }
}

TEST(CountPredictions, OnADeviceAsOnTheCpu) {
  const Tensor logits = test::random_normal({37, 70}, 5).to(DType::f32);
  Tensor tied = logits.clone();
  for (Index i = 0; i < tied.elements(); ++i) tied.mutable_data<float>()[i] = std::round(tied.data<float>()[i]);
  std::vector<std::int64_t> of_row;
  for (Index row = 0; row < 37; ++row) of_row.push_back(row * 13 % 70);
  const Tensor labels = Tensor::from({37}, of_row);
  for (const Device device : test::devices()) {
    for (const Tensor& scores : {logits, tied}) {
      train::Metrics cpu, there;
      cpu.add(scores, labels, Tensor::full({}, 0.5));
      for (int twice = 0; twice < 2; ++twice) {
        there.reset();
        there.add(scores.to(device), labels, Tensor::full({}, 0.5, DType::f32, device));
      }
      EXPECT_EQ(there.confusion(), cpu.confusion());
      EXPECT_EQ(there.top1(), cpu.top1());
      EXPECT_EQ(there.top5(), cpu.top5());
      EXPECT_EQ(there.loss(), 0.5);
      EXPECT_EQ(there.count(), 37);
    }
  }
}

}  // namespace
}  // namespace graft
