#include "core/format.h"
#include "tools/support.h"

namespace graft::tools {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// What `graft finetune` and `graft sweep` do with values of frozen layers. The cache is .cache in the test's folder.
class Cached : public CommandTest {
 protected:
  void SetUp() override {
    make_photos();
    save();
  }

  Outcome run(const std::string& command, const std::string& arguments, const std::string& before = "") const {
    return graft(command + " --weights tiny.safetensors --data data --batch 4 --workers 1 --threads 1 --seed 5 " +
                     "--engine native " + arguments,
                 before);
  }

  bool same_network(const std::string& a, const std::string& b) const {
    return read_text(folder() / a / "last.safetensors") == read_text(folder() / b / "last.safetensors");
  }
};

TEST_F(Cached, ASecondRunFindsWhatTheFirstComputed) {
  ASSERT_EQ(run("finetune", "--epochs 3 --out first").code, 0);
  EXPECT_TRUE(exists(".cache/graft/features"));
  const Outcome other = run("finetune", "--epochs 4 --head 8 --lr 0.01 --json --out other");
  EXPECT_THAT(other.error, HasSubstr("was computed by an earlier run for 18 photos"));
  EXPECT_EQ(other.json()["frozen_seconds"], 0);

  ASSERT_EQ(run("finetune", "--epochs 3 --out again").code, 0);
  ASSERT_EQ(run("finetune", "--epochs 3 --no-cache --out plain").code, 0);
  ASSERT_EQ(run("finetune", "--epochs 3 --cache-memory 0 --out file").code, 0);
  ASSERT_EQ(run("finetune", "--epochs 3 --cache elsewhere --out elsewhere-run").code, 0);
  EXPECT_TRUE(exists("elsewhere"));
  for (const char* same : {"again", "plain", "file", "elsewhere-run"}) EXPECT_TRUE(same_network("first", same)) << same;
}

TEST_F(Cached, WithoutCacheNothingIsKept) {
  const Outcome got = run("finetune", "--epochs 3 --no-cache --out run");
  EXPECT_THAT(got.error, HasSubstr("runs in every step, as asked"));
  EXPECT_FALSE(exists(".cache"));
  expect_failure(run("finetune", "--no-cache --cache x --out run2"), 2, "--no-cache");
}

TEST_F(Cached, AFullDiskIsSaidAndTheRunGoesOn) {
  const Outcome got = run("finetune", "--epochs 3 --checkpoint-every 1000 --out run", "ulimit -f 8; ");
  EXPECT_THAT(got.error, HasSubstr("cannot be reserved"));
  EXPECT_THAT(got.error, HasSubstr("the values stay in memory alone"));
}

TEST_F(Cached, ThePlanIsExplained) {
  const Outcome table = run("finetune", "--epochs 3 --explain-plan");
  ASSERT_EQ(table.code, 0) << table.error;
  EXPECT_THAT(table.out,
              AllOf(HasSubstr("KiB a photo"), HasSubstr("\n* pool "), HasSubstr("is computed once for 18 photos")));
  const nlohmann::json plan = run("finetune", "--epochs 3 --explain-plan --json").json();
  EXPECT_EQ(plan["cuts"].size(), 5u);
  EXPECT_EQ(plan["chosen"], 4);
  EXPECT_EQ(plan["cuts"][4]["border"], nlohmann::json({"pool"}));
  EXPECT_EQ(plan["cuts"][4]["bytes_an_example"], 32);
  EXPECT_LT(plan["cuts"][4]["seconds"], plan["plain_seconds"]);
  EXPECT_FALSE(exists(".cache"));
  EXPECT_THAT(run("finetune", "--epochs 3 --augment flip --views 2 --explain-plan").out,
              HasSubstr("2 views of each of"));
  expect_failure(run("finetune", "--views 2 --out run"), 2, "--views keeps versions that --augment makes");
}

TEST_F(Cached, ASweepGivesWhatSeparateRunsGive) {
  const auto best = [](const nlohmann::json& run) { return run["validation"].dump() + run["train"].dump(); };
  const nlohmann::json probes =
      run("sweep", "--layers conv2,relu1 --epochs 4 --lr 0.05 --out probes --json --quiet").json();
  ASSERT_EQ(probes["depths"].size(), 2u);
  EXPECT_EQ(probes["depths"][0]["layer"], "relu1");
  for (const nlohmann::json& depth : probes["depths"]) {
    const std::string layer = depth["layer"];
    const Outcome alone =
        run("finetune", fmt::format("--cut {0} --head none --epochs 4 --lr 0.05 --json --quiet --out p-{0}", layer));
    EXPECT_EQ(best(depth), best(alone.json())) << layer;
  }
  const nlohmann::json tuned =
      run("sweep", "--layers relu1,pool --fine-tune --epochs 3 --lr 0.05 --out tuned --json --quiet").json();
  const std::vector<std::string> frozen{"conv1,bn1,relu1", "conv1,bn1,relu1,conv2,pool"};
  for (std::size_t i = 0; i < 2; ++i) {
    const Outcome alone =
        run("finetune", "--freeze " + frozen[i] + " --epochs 3 --lr 0.05 --json --quiet --out t-" + std::to_string(i));
    EXPECT_EQ(best(tuned["depths"][i]), best(alone.json())) << frozen[i];
  }
  EXPECT_EQ(nlohmann::json::parse(read_text(folder() / "tuned/sweep.json")), tuned);
  EXPECT_THAT(read_text(folder() / "probes/sweep.html"), AllOf(HasSubstr("Accuracy by depth"), HasSubstr("relu1")));
  EXPECT_THAT(run("sweep", "--epochs 1 --out default").out, AllOf(HasSubstr("relu1"), HasSubstr("conv2")));
  expect_failure(run("sweep", "--layers nope --quiet --out bad"), 1, "nope");
  EXPECT_FALSE(exists("bad"));
}

TEST_F(Cached, ASweepKeepsWhatItProbes) {
  const std::string probes = "--layers conv2,relu1 --epochs 4 --lr 0.05 --json --out ";
  const auto sweep = [&](const std::string& arguments, const std::string& says) {
    const Outcome got = run("sweep", probes + arguments);
    EXPECT_EQ(got.code, 0) << got.error;
    EXPECT_THAT(got.error, HasSubstr(says));
    return got.json();
  };
  const nlohmann::json first = sweep("first", "is computed once for 18 photos and kept in");
  for (const auto& [arguments, says] : std::map<std::string, std::string>{
           {"again --cache-memory 0", "was computed by an earlier run for 18 photos"},
           {"other --cache other --cache-memory 0", "of the cache folder: "},
           {"none --cache empty --cache-memory 0 --cache-limit 0", "runs in every step: "},
           {"plain --no-cache", "runs in every step, as asked"}}) {
    const nlohmann::json got = sweep(arguments, says);
    for (std::size_t i = 0; i < 2; ++i)
      EXPECT_NEAR(got["depths"][i]["train"]["loss"].get<double>(), first["depths"][i]["train"]["loss"].get<double>(),
                  1e-5)
          << arguments;
  }
  EXPECT_TRUE(exists("other"));
  EXPECT_FALSE(exists("empty"));
}

// Not a line of progress comes before.
TEST_F(Cached, ASweepFindsItsFolderBeforeTheWork) {
  expect_failure(run("sweep", "--epochs 1 --out tiny.safetensors/sweep"), 1, "cannot make the folder");
}

}  // namespace
}  // namespace graft::tools
