#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "graft/io/network_file.h"

#include "support/expect.h"
#include "train/samples.h"

namespace graft::train {
namespace {

using test::small_network;
using testing::AllOf;
using testing::HasSubstr;

nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

std::vector<nlohmann::json> read_log(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

/// A run of six steps an epoch whose weights become too large after a step; returns what it says.
std::string diverge(const std::filesystem::path& out, Index epoch, Index step, double checkpoint_seconds) {
  nn::Network network = small_network();
  network.freeze("bn1");
  auto options = test::quick_options();
  options.out = out;
  options.checkpoint_seconds = checkpoint_seconds;
  options.after_step = [&](Index e, Index s) {
    if (e == epoch && s == step) network.parameter("conv2/weight").value.fill(3e38);  // its products overflow
  };
  try {
    test::stripe_trainer(network, options).run();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// What is left of it is the best network until then and the record; what it cannot be is continued or overwritten.
void expect_usable(const std::filesystem::path& out, const std::string& said) {
  const nlohmann::json run = read_json(out / "run.json");
  EXPECT_EQ(run["status"], "diverged");
  EXPECT_THAT(said, HasSubstr(run["error"].get<std::string>()));
  const auto log = read_log(out / "log.jsonl");
  ASSERT_EQ(log.size(), 2u);
  const auto best_epoch = run["results"]["best_epoch"].get<std::size_t>();
  EXPECT_THAT(said, HasSubstr(fmt::format("best.safetensors is the network of epoch {}", best_epoch)));
  nn::Network best = io::load_network(out / "best.safetensors");
  const auto validation = memory_source(test::stripe_features(32, 2), {.batch = 16});
  EXPECT_EQ(evaluate(best, *validation).loss(), log[best_epoch - 1]["validation"]["loss"].get<double>());
  EXPECT_FALSE(std::filesystem::exists(out / "last.safetensors"));

  nn::Network network = small_network();
  auto options = test::quick_options();
  options.out = out;
  EXPECT_ERROR(test::stripe_trainer(network, options), "the folder holds a run already");
  options.resume = true;
  EXPECT_ERROR(test::stripe_trainer(network, options), out.string() + ": the run diverged and would again");
}

TEST(Divergence, LeavesTheBestNetworkAndTheRecord) {
  const test::TemporaryFolder folder("diverged");
  for (const double checkpoint_seconds : {0.0, 1e9}) {
    const auto out = folder.path() / std::to_string(checkpoint_seconds);
    const std::string said = diverge(out, 2, 3, checkpoint_seconds);
    EXPECT_THAT(said, AllOf(HasSubstr("the loss is"), HasSubstr("in epoch 3, step 5, at learning rate 0.02"),
                            HasSubstr("the first value that is not finite comes from layer 'conv2' (conv2d)")));
    expect_usable(out, said);
    EXPECT_EQ(std::filesystem::exists(out / "checkpoint.safetensors"), checkpoint_seconds == 0);
  }
}

// A network that went wrong in the last step of an epoch is seen by validation, and that epoch never counts.
TEST(Divergence, IsSeenByValidationToo) {
  const test::TemporaryFolder folder("diverged_validation");
  const std::string said = diverge(folder.path(), 2, 5, 1e9);
  EXPECT_THAT(said, AllOf(HasSubstr("the validation loss is"), HasSubstr("after epoch 3, at learning rate 0.02"),
                          HasSubstr("the first value that is not finite comes from layer 'conv2' (conv2d)")));
  expect_usable(folder.path(), said);
}

// The optimizer takes its loss scale along, but counts the steps of each start from 0, as the trainer does.
TEST(Divergence, OfAResumedRunInF16NamesTheLayer) {
  const test::TemporaryFolder folder("diverged_f16");
  auto options = test::quick_options();
  options.precision = DType::f16;
  options.epochs = 2;
  options.batch = 4;
  options.out = folder.path();
  const auto said = [&](nn::Network& network) -> std::string {
    network.freeze("bn1");
    try {
      Trainer(network, memory_source(test::stripe_features(96, 1), {.batch = options.batch}), nullptr, options).run();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  nn::Network stopped = small_network(), network = small_network();
  options.after_step = [](Index epoch, Index) {
    if (epoch == 1) throw Error("stopped");
  };
  EXPECT_EQ(said(stopped), "stopped");
  options.resume = true;
  options.after_step = [&](Index epoch, Index step) {
    if (epoch == 1 && step == 2) network.parameter("conv2/weight").value.fill(3e38);
  };
  EXPECT_THAT(said(network), AllOf(HasSubstr("in epoch 2, step "),
                                   HasSubstr("the first value that is not finite comes from layer 'conv2' (conv2d)")));
}

TEST(Divergence, BeforeTheFirstEpochIsOverLeavesNothing) {
  const test::TemporaryFolder folder("diverged_at_once");
  EXPECT_THAT(diverge(folder.path(), 0, 2, 0), HasSubstr("in epoch 1, step 4"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace graft::train
