#include <csignal>
#include <cstdlib>

#include <gtest/gtest.h>
#include <sys/wait.h>

#include "graft/core/version.h"
#include "graft/io/network_file.h"
#include "graft/train/trainer.h"

#include "kernels/registry.h"
#include "support/expect.h"
#include "train/checkpoint.h"
#include "train/options.h"
#include "train/samples.h"

namespace graft::train {
namespace {

using test::bytes_of;
using test::small_network;

// Dropout, batch statistics, momentum, a schedule and augmentation-free shuffling: everything that has a state.
TrainOptions options_for(const std::filesystem::path& out) {
  auto options = test::quick_options();
  options.epochs = 5;
  options.optimizer = {
      .algorithm = optim::Algorithm::adamw, .learning_rate = 0.02, .weight_decay = 0.01, .clip_norm = 1};
  options.schedule = {.kind = optim::Schedule::Kind::cosine, .warmup = 3};
  options.seed = 11;
  options.out = out;
  return options;
}

struct Stop {};

Report train_to_the_end(const std::filesystem::path& out, nn::Network& network, bool resume) {
  auto options = options_for(out);
  options.resume = resume;
  return test::stripe_trainer(network, options).run();
}

// All but the times, which differ from run to run.
void expect_same_run(const Report& a, const Report& b) {
  ASSERT_EQ(a.epochs.size(), b.epochs.size());
  for (std::size_t i = 0; i < a.epochs.size(); ++i) {
    EXPECT_EQ(a.epochs[i].train.loss, b.epochs[i].train.loss) << i;
    EXPECT_EQ(a.epochs[i].validation->loss, b.epochs[i].validation->loss) << i;
    EXPECT_EQ(a.epochs[i].learning_rate, b.epochs[i].learning_rate) << i;
  }
  EXPECT_EQ(a.best_epoch, b.best_epoch);
  EXPECT_EQ(a.confusion, b.confusion);
}

TEST(Resume, EndsInTheSameBitsWhereverItWasStopped) {
  const test::TemporaryFolder folder("resume");
  nn::Network whole = small_network(0.3);
  const Report report = train_to_the_end(folder.path() / "whole", whole, false);
  nn::Network best = io::load_network(folder.path() / "whole" / "best.safetensors");
  for (const auto& [epoch, step] : std::vector<std::pair<Index, Index>>{{0, 2}, {1, 0}, {2, 3}, {4, 5}}) {
    const auto out = folder.path() / fmt::format("stopped_{}_{}", epoch, step);
    auto options = options_for(out);
    options.after_step = [at = std::pair(epoch, step)](Index e, Index s) {
      if (std::pair(e, s) == at) throw Stop{};
    };
    nn::Network stopped = small_network(0.3);
    EXPECT_THROW(test::stripe_trainer(stopped, options).run(), Stop);
    nn::Network resumed = small_network(0.3);
    expect_same_run(train_to_the_end(out, resumed, true), report);
    EXPECT_EQ(bytes_of(resumed), bytes_of(whole)) << epoch << ", " << step;
    nn::Network resumed_best = io::load_network(out / "best.safetensors");
    EXPECT_EQ(bytes_of(resumed_best), bytes_of(best));
  }
}

TEST(Resume, OfAFinishedRunTrainsNoMore) {
  const test::TemporaryFolder folder("finished");
  nn::Network network = small_network(0.3), again = small_network(0.3);
  const Report report = train_to_the_end(folder.path(), network, false);
  expect_same_run(train_to_the_end(folder.path(), again, true), report);
  EXPECT_EQ(bytes_of(again), bytes_of(network));
}

TEST(Resume, RefusesAnotherRun) {
  const test::TemporaryFolder folder("other");
  nn::Network network = small_network(0.3);
  train_to_the_end(folder.path(), network, false);
  const auto error = [&](const std::function<void(TrainOptions&)>& change,
                         nn::Network other = small_network(0.3)) -> std::string {
    auto options = options_for(folder.path());
    options.resume = true;
    change(options);
    try {
      test::stripe_trainer(other, options).run();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_THAT(error([](TrainOptions& o) { o.optimizer.learning_rate = 0.5; }),
              testing::HasSubstr("made with options 'learning_rate' 0.02, cannot continue it with 0.5"));
  EXPECT_THAT(error([](TrainOptions& o) { o.epochs = 3; }),
              testing::HasSubstr("'epochs' 5, cannot continue it with 3"));
  nn::Network frozen = small_network(0.3);
  frozen.freeze("conv1");
  EXPECT_THAT(error([](TrainOptions&) {}, frozen), testing::HasSubstr("made with frozen 'conv1/weight' null"));
  EXPECT_THAT(error([](TrainOptions&) {}, small_network(0.5)), testing::HasSubstr("made with layers 'dropout' {"));
  {
    ContextScope scope;
    scope->engine = Engine::native;
    EXPECT_THAT(error([](TrainOptions&) {}), testing::HasSubstr("made with options 'engine' "));
  }

  const auto checkpoint = folder.path() / "checkpoint.safetensors";
  std::filesystem::resize_file(checkpoint, std::filesystem::file_size(checkpoint) - 10);
  EXPECT_THAT(error([](TrainOptions&) {}), testing::HasSubstr("checkpoint.safetensors"));
}

// Changes what a checkpoint says of its run.
void edit_facts(const std::filesystem::path& run, const std::function<void(nlohmann::json&)>& edit) {
  Checkpoint checkpoint = read_checkpoint(run / "checkpoint.safetensors");
  edit(checkpoint.facts);
  write_checkpoint(run / "checkpoint.safetensors", checkpoint);
}

TEST(Resume, RefusesOtherChoicesOfKernels) {
  const test::TemporaryFolder folder("other_kernels");
  nn::Network network = small_network(0.3);
  train_to_the_end(folder.path(), network, false);
  edit_facts(folder.path(), [](nlohmann::json& facts) {
    nlohmann::json& on = facts["options"]["autotune"];
    on = !on.get<bool>();
  });
  EXPECT_ERROR(train_to_the_end(folder.path(), network, true), "made with options 'autotune' ");
}

// What only a GPU has keeps no run of a CPU from going on elsewhere.
TEST(Resume, ChoicesOfKernelsAreThoseOfTheDevice) {
  EXPECT_FALSE(kernel_options_json(Device{}).contains("hopper"));
  EXPECT_TRUE(kernel_options_json(Device{}).contains("autotune"));
#if GRAFT_HAS_CUDA
  EXPECT_TRUE(kernel_options_json({Device::Kind::cuda, 0}).contains("hopper"));
#endif
}

TEST(Resume, TellsOfOtherVersions) {
  const test::TemporaryFolder folder("other_versions");
  nn::Network network = small_network(0.3);
  train_to_the_end(folder.path(), network, false);
  const auto told = [&] {
    auto options = options_for(folder.path());
    options.resume = true;
    options.progress = Progress::lines;
    testing::internal::CaptureStderr();
    test::stripe_trainer(network, options).run();
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_THAT(told(), testing::Not(testing::HasSubstr("other versions")));
  edit_facts(folder.path(), [](nlohmann::json& facts) {
    facts["versions"]["graft"] = "0.0.7";
    facts["versions"]["abacus"] = "3";
  });
  EXPECT_THAT(told(), testing::HasSubstr("other versions, whose sums may end in other bits: abacus 3, now none; graft "
                                         "0.0.7, now " +
                                         std::string(kVersion) + "\n"));
  edit_facts(folder.path(), [](nlohmann::json& facts) { facts.erase("versions"); });
  EXPECT_THAT(told(), testing::HasSubstr("graft none, now "));
}

// Libraries count only where they may compute.
TEST(Resume, VersionsAreOfWhatIsInUse) {
  ContextScope scope;
  scope->engine = Engine::automatic;
  const std::string onednn = kernels::onednn_version();
  EXPECT_EQ(versions_json(Device{}).value("oneDNN", ""), onednn);
  EXPECT_FALSE(versions_json({Device::Kind::emulated, 0}).contains("oneDNN"));
  scope->engine = Engine::native;
  EXPECT_EQ(versions_json(Device{}), (nlohmann::json{{"graft", kVersion}}));
}

TEST(Resume, RefusesOtherPhotos) {
  const test::TemporaryFolder folder("other_photos");
  const auto photos = test::stripe_photos(folder.path() / "photos", 12, 1);
  auto options = test::quick_options();
  options.epochs = 1;
  options.out = folder.path() / "run";
  const auto train = [&] {
    nn::Network network = small_network();
    Trainer(network, photos, {}, options).run();
  };
  train();
  options.resume = true;
  train();
  std::ofstream(photos.files[3], std::ios::app) << "x";
  EXPECT_ERROR(train(), "the run was made with data 'train' ");
}

// The process of the next test: it kills itself with the signal that nothing can catch.
TEST(ResumeChild, TrainsUntilItIsKilled) {
  const char* out = std::getenv("GRAFT_TEST_RUN");
  if (out == nullptr) GTEST_SKIP() << "only run by Resume.AfterKill9";
  auto options = options_for(out);
  options.resume = true;
  Index steps = std::atoi(std::getenv("GRAFT_TEST_STEPS"));
  options.after_step = [&](Index, Index) {
    if (steps-- == 0) std::raise(SIGKILL);
  };
  nn::Network network = small_network(0.3);
  test::stripe_trainer(network, options).run();
}

TEST(Resume, AfterKill9) {
  const test::TemporaryFolder folder("kill9");
  nn::Network whole = small_network(0.3), resumed = small_network(0.3);
  const Report report = train_to_the_end(folder.path() / "whole", whole, false);
  const auto out = folder.path() / "killed";
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  for (const int steps : {4, 9, 14}) {        // six steps an epoch; each start is killed that many steps later
    const std::string command = fmt::format(  // which runs in every shard of this program
        "unset GTEST_TOTAL_SHARDS GTEST_SHARD_INDEX; "
        "GRAFT_TEST_RUN='{}' GRAFT_TEST_STEPS={} exec '{}' --gtest_filter=ResumeChild.* > /dev/null 2>&1",
        out.string(), steps, self);
    const int status = std::system(command.c_str());
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
  }
  expect_same_run(train_to_the_end(out, resumed, true), report);
  EXPECT_EQ(bytes_of(resumed), bytes_of(whole));
}

}  // namespace
}  // namespace graft::train
