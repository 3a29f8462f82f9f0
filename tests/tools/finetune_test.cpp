#include "graft/io/safetensors.h"

#include "tools/support.h"

namespace graft::tools {
namespace {

using testing::HasSubstr;

class Finetune : public CommandTest {
 protected:
  void SetUp() override {
    make_photos();
    save();
  }

  Outcome finetune(const std::string& arguments) const {
    return graft("finetune --weights tiny.safetensors --data data --batch 4 --workers 1 --threads 1 --seed 5 " +
                 arguments);
  }

  /// Whether a parameter of the run's last network is bit for bit what it was in the file.
  bool same_as_before(const std::string& run, const std::string& parameter) const {
    const Tensor before = io::read_safetensors(folder() / "tiny.safetensors").at(parameter);
    const Tensor after = io::read_safetensors(folder() / run / "last.safetensors").at(parameter);
    return std::memcmp(before.raw(), after.raw(), before.bytes()) == 0;
  }
};

TEST_F(Finetune, LearnsColoursAndTheRunIsUsedByTheOtherCommands) {
  const Outcome got = finetune("--head 8 --epochs 25 --lr 0.05 --validation-split 0.34 --json --out run");
  ASSERT_EQ(got.code, 0) << got.error;
  const nlohmann::json result = got.json();
  EXPECT_EQ(result["classes"], nlohmann::json({"blue", "green", "red"}));
  EXPECT_EQ(result["photos"]["validation"], 6);
  EXPECT_GT(result["validation"]["top1"], 0.9);
  for (const char* file : {"best.safetensors", "last.safetensors", "run.json", "log.jsonl"})
    EXPECT_TRUE(exists(fs::path("run") / file)) << file;
  EXPECT_TRUE(same_as_before("run", "conv1/weight"));
  EXPECT_TRUE(same_as_before("run", "bn1/moving_mean"));

  EXPECT_EQ(graft("predict --run run data/red/0.png --top 1 --json").json()[0]["top"][0]["label"], "red");
  EXPECT_GT(graft("evaluate --run run --data data --json").json()["top1"], 0.9);
  EXPECT_EQ(graft("features --run run --layer head_hidden_1 data/red/0.png -o f.safetensors").code, 0);
  const Outcome report = graft("report run -o report.html --photos 3");
  ASSERT_EQ(report.code, 0) << report.error;
  EXPECT_THAT(read_text(folder() / "report.html"), HasSubstr("data:image/jpeg;base64,"));
}

TEST_F(Finetune, SaysHowLongTheFrozenPartTook) {
  const Outcome cached = finetune("--epochs 2 --json --out cached");
  EXPECT_THAT(cached.error, testing::ContainsRegex("frozen part of 18 photos in [0-9.]+ s  [0-9]+ img/s\n"));
  EXPECT_THAT(cached.error, HasSubstr("epoch 2/2"));
  const nlohmann::json result = cached.json();
  EXPECT_GT(result["frozen_seconds"], 0);
  double epochs = 0;
  std::ifstream log(folder() / "cached/log.jsonl");
  for (std::string line; std::getline(log, line);) epochs += nlohmann::json::parse(line)["seconds"].get<double>();
  EXPECT_GT(epochs, 0);
  EXPECT_GE(result["seconds"], result["frozen_seconds"].get<double>() + epochs);

  const Outcome plain = finetune("--epochs 1 --no-cache --quiet --json --out plain");
  EXPECT_EQ(plain.json()["frozen_seconds"], 0);
  EXPECT_EQ(plain.error, "");
  EXPECT_EQ(finetune("--epochs 1 --quiet --out quiet").error, "");
}

TEST_F(Finetune, LearnsInBf16WithF32Weights) {
  const std::string options = "--train-last 1 --head 8 --epochs 20 --lr 0.02 --validation-split 0.34 --json ";
  const auto losses = [&](const std::string& precision) {
    const Outcome got = finetune(options + "--precision " + precision + " --out " + precision);
    EXPECT_EQ(got.code, 0) << got.error;
    EXPECT_GE(got.json()["validation"]["top1"], 0.83) << precision;  // 5 of 6
    std::vector<double> all;
    std::ifstream log(folder() / precision / "log.jsonl");
    for (std::string line; std::getline(log, line);) all.push_back(nlohmann::json::parse(line)["train"]["loss"]);
    return all;
  };
  const std::vector<double> half = losses("bf16"), full = losses("f32");
  ASSERT_EQ(half.size(), full.size());
  EXPECT_LT(half.back(), 0.5 * half.front());
  EXPECT_NE(half.front(), full.front()) << "nothing was rounded";
  for (std::size_t i = 0; i < full.size(); ++i) EXPECT_NEAR(half[i], full[i], 0.03) << "epoch " << i + 1;
  for (const auto& [name, value] : io::read_safetensors(folder() / "bf16/last.safetensors").tensors)
    EXPECT_EQ(value.dtype(), DType::f32) << name;
}

// The decay is so strong that weights grow a thousand times in each step: a few epochs go well.
TEST_F(Finetune, ADivergedRunCanBeUsedButNotResumed) {
  const std::string options = "--optimizer sgd --lr 1 --weight-decay 1e3 --epochs 20 --out run --quiet ";
  expect_failure(finetune(options), 1, "the loss is nan in epoch 4");
  const nlohmann::json record = nlohmann::json::parse(read_text(folder() / "run/run.json"));
  EXPECT_EQ(record["status"], "diverged");
  EXPECT_THAT(record["error"].get<std::string>(), HasSubstr("'head"));
  for (const auto& entry : fs::directory_iterator(folder() / "run")) {
    EXPECT_THAT(entry.path().filename().string(),
                testing::AnyOf("best.safetensors", "log.jsonl", "run.json", "data.json", "checkpoint.safetensors"));
  }
  EXPECT_EQ(graft("predict --run run data/red/0.png").code, 0);
  EXPECT_EQ(graft("evaluate --run run --data data").code, 0);
  EXPECT_EQ(graft("report ../run -o report.html", "mkdir elsewhere && cd elsewhere && ").code, 0);
  EXPECT_THAT(read_text(folder() / "elsewhere/report.html"), HasSubstr("data:image/jpeg;base64,"));

  expect_failure(finetune(options + "--resume"), 1, "run: the run diverged and would again; start anew in another");
  expect_failure(finetune(options), 1, "run: the folder holds a run already");
}

TEST_F(Finetune, FoldsMeasureAndWriteNoRun) {
  const Outcome got = finetune("--head 8 --epochs 25 --lr 0.05 --folds 3 --fold-seeds 2 --json");
  ASSERT_EQ(got.code, 0) << got.error;
  const nlohmann::json result = got.json();
  EXPECT_EQ(result["accuracies"].size(), 2u);
  EXPECT_GT(result["mean"], 0.9);
  expect_failure(finetune("--folds 3 --out run"), 2, "--out excludes --folds");
  expect_failure(finetune("--epochs 1"), 2, "--out is required");
  expect_failure(finetune("--fold-seeds 3 --out run"), 2, "--fold-seeds requires --folds");
  EXPECT_FALSE(exists("run"));
}

TEST_F(Finetune, TrainsWhatIsAskedForAndNothingElse) {
  struct Case {
    const char* options;
    bool conv1, bn1, statistics, conv2;  // whether they move
  };
  int number = 0;
  for (const Case& c :
       {Case{"", false, false, false, false}, Case{"--train-last 1", false, false, false, true},
        Case{"--train-last 2", false, true, false, true}, Case{"--unfreeze 'conv*'", true, false, false, true},
        Case{"--freeze 'conv1'", false, true, false, true},
        Case{"--freeze 'conv?' --batch-norm batch", false, true, true, false}}) {
    const std::string run = "run" + std::to_string(number++);
    const Outcome got = finetune(std::string(c.options) + " --epochs 1 --lr 0.01 --out " + run);
    ASSERT_EQ(got.code, 0) << c.options << got.error;
    EXPECT_EQ(!same_as_before(run, "conv1/weight"), c.conv1) << c.options;
    EXPECT_EQ(!same_as_before(run, "bn1/gamma"), c.bn1) << c.options;
    EXPECT_EQ(!same_as_before(run, "bn1/moving_mean"), c.statistics) << c.options;
    EXPECT_EQ(!same_as_before(run, "conv2/weight"), c.conv2) << c.options;
  }
}

TEST_F(Finetune, CutsAnywhereKeepsAHeadAndForgetsWeights) {
  ASSERT_EQ(finetune("--cut relu1 --head 4,5 --dropout 0.2 --epochs 1 --out cut").code, 0);
  EXPECT_FALSE(io::read_safetensors(folder() / "cut/last.safetensors").contains("conv2/weight"));
  EXPECT_EQ(io::read_safetensors(folder() / "cut/last.safetensors").at("head_hidden_2/weight").shape(), (Shape{5, 4}));

  ASSERT_EQ(graft("finetune --weights cut/last.safetensors --data data --keep-head --epochs 1 --out kept").code, 0);
  EXPECT_EQ(io::read_safetensors(folder() / "kept/last.safetensors").at("head_hidden_2/weight").shape(), (Shape{5, 4}));

  ASSERT_EQ(finetune("--random-weights --epochs 1 --out random").code, 0);
  EXPECT_FALSE(same_as_before("random", "conv2/weight"));
}

TEST_F(Finetune, ResumingAFinishedRunChangesNothing) {
  ASSERT_EQ(
      finetune(
          "--epochs 2 --augment flip,rotate=10 --optimizer sgd --momentum 0.9 --schedule cosine --warmup 2 --out run")
          .code,
      0);
  const std::string before = read_text(folder() / "run/last.safetensors");
  const Outcome again = finetune(
      "--epochs 2 --augment flip,rotate=10 --optimizer sgd --momentum 0.9 --schedule cosine --warmup 2 --out run");
  expect_failure({again.code, again.out, again.error.substr(again.error.find("graft: "))}, 1, "resume it");
  EXPECT_EQ(finetune("--epochs 2 --augment flip,rotate=10 --optimizer sgd --momentum 0.9 --schedule cosine --warmup 2 "
                     "--out run --resume")
                .code,
            0);
  EXPECT_EQ(read_text(folder() / "run/last.safetensors"), before);
}

}  // namespace
}  // namespace graft::tools
