#include "graft/train/trainer.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "graft/io/network_file.h"

#include "support/expect.h"
#include "train/options.h"
#include "train/progress.h"
#include "train/samples.h"

namespace graft::train {
namespace {

using test::bytes_of;
using test::quick_options;
using test::small_network;
using testing::AllOf;
using testing::HasSubstr;

TEST(Trainer, LearnsToTellRowsFromColumns) {
  nn::Network network = small_network();
  const Report report = test::stripe_trainer(network, quick_options()).run();
  ASSERT_EQ(report.epochs.size(), 4u);
  EXPECT_GE(report.best().validation->top1, 0.95);
  EXPECT_LT(report.epochs.back().train.loss, report.epochs.front().train.loss);
  EXPECT_EQ(report.confusion[0][0] + report.confusion[0][1], 16);
  EXPECT_EQ(report.confusion[1][0] + report.confusion[1][1], 16);
  EXPECT_FALSE(report.stopped_early);
}

TEST(Trainer, LearnsFromPhotosAndWritesARun) {
  const test::TemporaryFolder folder("photos");
  const auto train = test::stripe_photos(folder.path() / "train", 48, 1),
             validation = test::stripe_photos(folder.path() / "validation", 16, 2);
  nn::Network network = small_network();
  network.classes = train.classes;
  auto options = quick_options();
  options.out = folder.path() / "run";
  options.profile = true;
  options.label_smoothing = 0.1;
  options.schedule = {.kind = optim::Schedule::Kind::cosine, .warmup = 2};
  const Report report = Trainer(network, train, validation, options).run();
  EXPECT_GE(report.best().validation->top1, 0.9);
  EXPECT_LT(report.epochs.back().learning_rate, 0.002) << "the cosine ends near 0";

  std::ifstream log(options.out / "log.jsonl");
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(log, line);) lines.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[2]["epoch"], 3);
  EXPECT_EQ(lines[2]["train"]["loss"], report.epochs[2].train.loss);
  EXPECT_GT(lines[2]["images_per_second"], 0);

  std::ifstream file(options.out / "run.json");
  const auto run = nlohmann::json::parse(file);
  EXPECT_EQ(run["status"], "finished");
  EXPECT_EQ(run["options"]["schedule"], "cosine");
  EXPECT_EQ(run["data"]["train"]["by_class"]["0"], 24);
  EXPECT_EQ(run["results"]["best_epoch"], report.best_epoch);
  EXPECT_EQ(run["network"]["trainable"], 3 * 9 * 8 + 16 + 8 * 9 * 8 + 8 + 16 + 2);

  EXPECT_THAT(report.profile, AllOf(HasSubstr("backward"), HasSubstr("optimizer"), HasSubstr("conv2d"),
                                    HasSubstr("bn1"), HasSubstr("GFLOP/s")));

  nn::Network last = io::load_network(options.out / "last.safetensors"),
              best = io::load_network(options.out / "best.safetensors");
  EXPECT_EQ(bytes_of(last), bytes_of(network));
  EXPECT_EQ(evaluate(best, validation).top1(), report.best().validation->top1);
  EXPECT_ERROR(Trainer(network, train, validation, options).run(), "holds a run already");
}

// The best network is that of the best epoch even where later ones were worse.
TEST(Trainer, KeepsTheBestOfAll) {
  const test::TemporaryFolder folder("best");
  nn::Network network = small_network();
  auto options = quick_options();
  options.epochs = 3;
  options.checkpoint_seconds = 1e9;  // files are written at the end alone, from what was kept in memory
  options.out = folder.path();
  options.after_step = [&](Index epoch, Index) {  // spoils the last epoch
    if (epoch == 2) network.parameter("head/weight").value.fill(0);
  };
  const Report report = test::stripe_trainer(network, options).run();
  EXPECT_LT(report.best_epoch, 3);
  nn::Network best = io::load_network(options.out / "best.safetensors");
  const auto source = memory_source(test::stripe_features(32, 2), {.batch = 16});
  EXPECT_EQ(evaluate(best, *source).loss(), report.best().validation->loss);
  EXPECT_EQ(evaluate(network, *source).loss(), report.epochs.back().validation->loss);
}

TEST(Trainer, StopsEarly) {
  nn::Network network = small_network();
  auto options = quick_options();
  options.epochs = 50;
  options.patience = 2;
  options.optimizer = {.algorithm = optim::Algorithm::sgd, .learning_rate = 0};
  network.freeze("bn1");  // moving statistics: nothing at all changes, so the first epoch stays the best
  const Report report = test::stripe_trainer(network, options).run();
  EXPECT_TRUE(report.stopped_early);
  EXPECT_EQ(report.best_epoch, 1);
  EXPECT_EQ(report.epochs.size(), 3u);
}

TEST(Trainer, DoesWithoutValidation) {
  const test::TemporaryFolder folder("no_validation");
  const auto photos = test::stripe_photos(folder.path(), 12, 1);
  nn::Network network = small_network();
  auto options = quick_options();
  options.epochs = 2;
  const Report report = Trainer(network, photos, {}, options).run();
  EXPECT_FALSE(report.epochs[0].validation.has_value());
  EXPECT_TRUE(report.confusion.empty());
  EXPECT_EQ(report.best_epoch, report.epochs[1].train.loss < report.epochs[0].train.loss ? 2 : 1);
}

TEST(Trainer, SameForAnyNumberOfThreadsAndWorkers) {
  const test::TemporaryFolder folder("threads");
  const auto photos = test::stripe_photos(folder.path(), 24, 1);
  ContextScope scope;
  scope->engine = Engine::native;
  std::map<std::string, std::string> end[2];
  for (const int count : {1, 2}) {
    set_threads(count);
    nn::Network network = small_network(0.3);
    auto options = quick_options();
    options.epochs = 2;
    options.workers = count;
    options.augmentation = {.flip = true, .rotate = 5};
    Trainer(network, photos, photos, options).run();
    end[count - 1] = bytes_of(network);
  }
  EXPECT_EQ(end[0], end[1]);
}

TEST(Trainer, SeedDecides) {
  const auto train = [](std::uint64_t seed) {
    nn::Network network = small_network(0.3);
    auto options = quick_options();
    options.epochs = 1;
    options.seed = seed;
    test::stripe_trainer(network, options).run();
    return bytes_of(network);
  };
  const Generator before = Context::current().generator;
  EXPECT_EQ(train(1), train(1));
  EXPECT_NE(train(1), train(2));
  EXPECT_EQ(Context::current().generator.offset, before.offset) << "the caller's random numbers are left alone";
}

TEST(Trainer, TrainsInOtherPrecisions) {
  for (const DType precision : {DType::bf16, DType::f64}) {
    nn::Network network = small_network();
    if (precision == DType::f64) network.set_parameter_dtype(DType::f64);
    auto options = quick_options();
    options.precision = precision;
    const Report report = test::stripe_trainer(network, options).run();
    EXPECT_GE(report.best().validation->top1, 0.9) << name(precision);
    for (const nn::Parameter* parameter : network.parameters()) EXPECT_EQ(parameter->value.dtype(), exact(precision));
  }
}

TEST(Trainer, ShowsItsProgress) {
  const auto shown = [](Progress progress) {
    nn::Network network = small_network();
    auto options = quick_options();
    options.epochs = 2;
    options.progress = progress;
    testing::internal::CaptureStderr();
    test::stripe_trainer(network, options).run();
    return testing::internal::GetCapturedStderr();
  };
  const std::string lines = shown(Progress::automatic);  // a captured stream is no terminal
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 2);
  EXPECT_THAT(lines, AllOf(HasSubstr("epoch 1/2  loss"), HasSubstr("validation loss"), HasSubstr("img/s"),
                           HasSubstr("0:00 left")));
  EXPECT_THAT(lines, testing::Not(HasSubstr("\r")));
  EXPECT_THAT(shown(Progress::bar),
              AllOf(HasSubstr("epoch 1/2 [####....................] 1/6  loss"), HasSubstr("left")));
  EXPECT_EQ(shown(Progress::none), "");
}

TEST(Trainer, ShowsHowFarTheFrozenPartIs) {
  const test::TemporaryFolder folder("frozen_progress");
  const auto train = test::stripe_photos(folder.path() / "train", 24, 1),
             validation = test::stripe_photos(folder.path() / "validation", 8, 2);
  Report report;
  const auto shown = [&](Progress progress) {
    nn::Network network = small_network();
    network.freeze();
    network.unfreeze("head");
    auto options = quick_options();
    options.epochs = 2;
    options.batch = 8;
    options.progress = progress;
    options.out = folder.path() / std::to_string(static_cast<int>(progress));
    testing::internal::CaptureStderr();
    report = Trainer(network, train, validation, options).run();
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_THAT(shown(Progress::lines), testing::ContainsRegex("frozen part of 32 photos in [0-9.]+ s  [0-9]+ img/s\n"));
  EXPECT_THAT(shown(Progress::bar),
              testing::ContainsRegex("frozen part \\[#{6}\\.{18}\\] 8/32  [0-9]+ img/s  [0-9]+:[0-9]+ left"));
  EXPECT_EQ(shown(Progress::none), "");
  EXPECT_GT(report.frozen_seconds, 0);
  EXPECT_GE(report.seconds, report.frozen_seconds + report.epochs[0].seconds);
  std::ifstream file(folder.path() / std::to_string(static_cast<int>(Progress::none)) / "run.json");
  const auto results = nlohmann::json::parse(file)["results"];
  EXPECT_EQ(results["frozen_seconds"], report.frozen_seconds);
  EXPECT_GE(results["seconds"], report.seconds);

  ProgressDisplay display(Progress::lines, 1, 1, std::chrono::seconds(0));  // in a log that takes longer
  testing::internal::CaptureStderr();
  display.start_frozen(10);
  display.frozen(4);
  display.end_frozen();
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              testing::MatchesRegex("frozen part 4/10  [0-9]+ img/s  [0-9]+:[0-9][0-9] left\nfrozen part of 10 .*\n"));
}

// Nothing is left behind by a run that fails before its first epoch is over.
TEST(Trainer, WritesNothingIfItFails) {
  const test::TemporaryFolder folder("failed");
  nn::Network network = small_network();
  network.parameter("conv1/weight").value.fill(std::nan(""));
  auto options = quick_options();
  options.out = folder.path();
  EXPECT_ERROR(test::stripe_trainer(network, options).run(), "not finite");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Trainer, LayersHaveTheirOwnRates) {
  nn::Network network = small_network();
  network.freeze("bn1");
  const auto before = bytes_of(network);
  auto options = quick_options();
  options.epochs = 1;
  options.learning_rate_of = {{"conv1", 0.0}, {"conv*", 0.01}};  // the first that matches counts
  test::stripe_trainer(network, options).run();
  const auto after = bytes_of(network);
  EXPECT_EQ(after.at("conv1/weight"), before.at("conv1/weight"));
  EXPECT_NE(after.at("conv2/weight"), before.at("conv2/weight"));
  EXPECT_NE(after.at("head/weight"), before.at("head/weight"));
}

TEST(Trainer, LayersHaveTheirOwnDecays) {
  const auto train = [](double decay, const std::vector<std::pair<std::string, double>>& decay_of) {
    nn::Network network = small_network();
    auto options = quick_options();
    options.epochs = 1;
    options.batch = 96;  // a single step
    options.optimizer = {.algorithm = optim::Algorithm::sgd, .learning_rate = 0.02, .weight_decay = decay};
    options.weight_decay_of = decay_of;
    test::stripe_trainer(network, options).run();
    return bytes_of(network);
  };
  const auto none = train(0, {}), all = train(0.5, {}), some = train(0.5, {{"conv1", 0.0}, {"conv*", 0.25}});
  EXPECT_EQ(some.at("conv1/weight"), none.at("conv1/weight"));
  EXPECT_NE(some.at("conv2/weight"), none.at("conv2/weight"));
  EXPECT_NE(some.at("conv2/weight"), all.at("conv2/weight"));
  EXPECT_EQ(some.at("head/weight"), all.at("head/weight"));
}

// In f16 a step may be left out for its loss: the epoch's is then no number, and any other is better.
TEST(Trainer, AnEpochWithoutALossIsReadAgainAndIsTheWorst) {
  EpochRecord without{.epoch = 1}, with{.epoch = 2};
  without.train.loss = std::nan("");
  with.train.loss = 3;
  EXPECT_TRUE(std::isnan(record_from_json(nlohmann::json::parse(to_json(without).dump())).train.loss));
  EXPECT_TRUE(is_better(with, without));
  EXPECT_FALSE(is_better(without, with));
  EXPECT_FALSE(is_better(without, without));
}

// Activations of 8 bits of precision lead the same way as those of 24: the f32 masters take every small step.
TEST(Trainer, LearnsInBf16AsInF32) {
  const auto train = [](DType precision) {
    nn::Network network = small_network();
    auto options = quick_options();
    options.epochs = 6;
    options.optimizer.learning_rate = 0.003;
    options.precision = precision;
    Report report = test::stripe_trainer(network, options).run();
    for (const nn::Parameter* parameter : network.parameters()) EXPECT_EQ(parameter->value.dtype(), DType::f32);
    return report;
  };
  const Report full = train(DType::f32), half = train(DType::bf16);
  EXPECT_LT(half.epochs.back().train.loss, 0.5 * half.epochs.front().train.loss);
  EXPECT_NE(half.epochs.front().train.loss, full.epochs.front().train.loss) << "nothing was rounded";
  for (std::size_t i = 0; i < full.epochs.size(); ++i) {
    EXPECT_NEAR(half.epochs[i].train.loss, full.epochs[i].train.loss, 0.005) << "epoch " << i + 1;
    EXPECT_NEAR(half.epochs[i].validation->top1, full.epochs[i].validation->top1, 1.0 / 32) << "epoch " << i + 1;
  }
}

// A class that counts nothing is not learned: everything is taken for the other one.
TEST(Trainer, ClassesHaveTheirWeights) {
  nn::Network network = small_network();
  auto options = quick_options();
  options.class_weights = {1, 0};
  const Report report = test::stripe_trainer(network, options).run();
  EXPECT_EQ(report.confusion[0][0], 16);
  EXPECT_EQ(report.confusion[1][0], 16);
}

TEST(Evaluate, CountsWithoutChangingAnything) {
  const test::TemporaryFolder folder("evaluate");
  const auto photos = test::stripe_photos(folder.path(), 10, 1);
  nn::Network network = small_network(0.5);
  network.classes = photos.classes;
  const auto before = bytes_of(network);
  const Metrics metrics = evaluate(network, photos, 4), again = evaluate(network, photos, 10);
  EXPECT_EQ(metrics.count(), 10);
  EXPECT_NEAR(metrics.loss(), again.loss(), 1e-6) << "batches count by their size";
  EXPECT_EQ(metrics.confusion(), again.confusion());
  EXPECT_EQ(bytes_of(network), before) << "batch statistics are for training";
  network.classes = {"cats", "dogs"};
  EXPECT_ERROR(evaluate(network, photos), "the network's classes (cats, dogs) are not the data's (columns, rows)");
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Trainer, NamesTheLayerWhereNumbersStopBeingFinite) {
  {
    nn::Network network = small_network();
    network.freeze("bn1");
    network.parameter("conv2/weight").value.fill(3e38);  // finite, but its products are not
    const auto before = bytes_of(network);
    EXPECT_THAT(message_of([&] { test::stripe_trainer(network, quick_options()).run(); }),
                AllOf(HasSubstr("[train] the loss is"), HasSubstr("in epoch 1, step 1, at learning rate 0.02"),
                      HasSubstr("the first value that is not finite comes from layer 'conv2' (conv2d)")));
    EXPECT_EQ(bytes_of(network), before) << "the step that went wrong changed nothing";
  }
  {
    nn::Network network = small_network();
    network.parameter("bn1/gamma").value.mutable_data<float>()[3] = std::nanf("");
    EXPECT_THAT(message_of([&] { test::stripe_trainer(network, quick_options()).run(); }),
                HasSubstr("parameter 'bn1/gamma' is not finite"));
  }
  {
    nn::Network network = small_network();
    auto bad = std::make_shared<Features>(*test::stripe_features(8, 1));
    bad->values["input"] = bad->values["input"].clone();
    bad->values["input"].mutable_data<float>()[5] = std::numeric_limits<float>::infinity();
    Trainer trainer(network, memory_source(bad, {.batch = 8}), nullptr, quick_options());
    EXPECT_THAT(message_of([&] { trainer.run(); }),
                HasSubstr("a value given to 'input' is not finite (examples 0, 1, 2"));
  }
  {  // the loss is finite; backwards, 1e30 * 1e30 overflows in the gradient that the first dense layer hands on
    nn::Builder b({.height = 2, .width = 2});
    auto x = b.add("flat", nn::Flatten(), b.input());
    x = b.add("down", nn::Linear({.out = 2}), x);
    x = b.add("up", nn::Linear({.out = 2}), x);
    nn::Network network = b.build(b.add("top", nn::Linear({.out = 2}), x));
    network.materialize();
    network.parameter("down/weight").value.fill(0);
    network.parameter("up/weight").value.fill(1e30);
    auto top = network.parameter("top/weight").value;
    top.fill(1e30);
    top.mutable_data<float>()[0] = -1e30f;
    top.mutable_data<float>()[1] = -1e30f;
    auto data = std::make_shared<Features>();
    data->values["input"] = Tensor::full({4, 2, 2, 3}, 1);
    data->labels = {0, 0, 0, 0};
    Trainer trainer(network, memory_source(data, {.batch = 4}), nullptr, quick_options());
    EXPECT_THAT(message_of([&] { trainer.run(); }),
                AllOf(HasSubstr("a gradient is not finite"),
                      HasSubstr("the first gradient that is not finite is that of layer 'down'")));
  }
}

TEST(Trainer, RefusesWhatMakesNoSense) {
  const auto error_of = [](const std::function<void(TrainOptions&)>& change, nn::Network network = small_network()) {
    auto options = quick_options();
    change(options);
    return message_of([&] { test::stripe_trainer(network, options).run(); });
  };
  nn::Network frozen = small_network();
  frozen.freeze();
  EXPECT_THAT(error_of([](TrainOptions&) {}, frozen), HasSubstr("[train] nothing to train"));
  nn::Network partly = small_network();
  partly.freeze("conv1");
  EXPECT_THAT(error_of(
                  [](TrainOptions& o) {
                    o.learning_rate_of = {{"conv1", 1e-5}};
                  },
                  partly),
              HasSubstr("'conv1=1e-05' names a learning rate for layers that are frozen"));
  EXPECT_THAT(error_of(
                  [](TrainOptions& o) {
                    o.weight_decay_of = {{"conv1", 0.1}};
                  },
                  partly),
              HasSubstr("'conv1=0.1' names a weight decay for layers that are frozen"));
  EXPECT_THAT(error_of([](TrainOptions& o) { o.learning_rate_of = {{"block9", 1e-5}}; }), HasSubstr("'block9'"));
  EXPECT_THAT(error_of([](TrainOptions& o) {
                o.learning_rate_of = {{"conv1", -1}};
              }),
              HasSubstr("expected a rate or decay of 0 or more for 'conv1', got -1"));
  EXPECT_THAT(error_of([](TrainOptions& o) { o.epochs = 0; }), HasSubstr("expected at least one epoch"));
  EXPECT_THAT(error_of([](TrainOptions& o) { o.label_smoothing = 1; }),
              HasSubstr("label smoothing must be in [0, 1), got 1"));
  EXPECT_THAT(error_of([](TrainOptions& o) { o.class_weights = {1, 2, 3}; }), HasSubstr("expected 2 class weights"));
  EXPECT_THAT(error_of([](TrainOptions& o) { o.resume = true; }), HasSubstr("resuming needs the folder"));
  EXPECT_THAT(error_of([](TrainOptions& o) { o.precision = DType::i32; }),
              HasSubstr("expected precision f32, bf16, f16 or f64, got i32"));
  EXPECT_THAT(error_of([](TrainOptions& o) { o.schedule = {.kind = optim::Schedule::Kind::cosine, .warmup = 1000}; }),
              HasSubstr("leaves none after a warm-up"));

  const test::TemporaryFolder folder("classes");
  const auto photos = test::stripe_photos(folder.path(), 4, 1);
  nn::Network network = small_network();
  network.classes = {"cats", "dogs"};
  EXPECT_ERROR(Trainer(network, photos, {}, quick_options()),
               "the network's classes (cats, dogs) are not the data's (columns, rows)");
  nn::Network plain = small_network();
  plain.freeze("conv1");
  auto options = quick_options();
  options.schedule = {.kind = optim::Schedule::Kind::cosine, .warmup = 1000};
  options.progress = Progress::lines;
  testing::internal::CaptureStderr();
  EXPECT_ERROR(Trainer(plain, photos, {}, options), "leaves none after a warm-up");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "before anything is computed";
  nn::Network three = small_network();
  nn::HeadOptions head;
  head.classes = 3;
  head.cut = "conv2";
  three.graft(head);
  EXPECT_ERROR(Trainer(three, photos, {}, quick_options()),
               "the data has 2 classes, 'network' has 3 outputs; graft a head of 2");
}

}  // namespace
}  // namespace graft::train
