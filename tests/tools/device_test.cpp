// --device: the commands on the emulated device give what they give on the CPU, and where there is no GPU they say so.

#include "graft/models/models.h"

#include "kernels/registry.h"
#include "tools/support.h"

namespace graft::tools {
namespace {

class DeviceOption : public CommandTest {
 protected:
  void SetUp() override {
    if (!kernels::built().emulated) GTEST_SKIP() << "built without the emulated device";
    make_photos("data", 3, 10, 12);
  }

  // A small network that 'graft convert' made out of a file as PyTorch would write it.
  void convert() const {
    nn::Network original = models::make("mobilenet", {.classes = 3, .height = 32, .width = 32, .alpha = 0.25});
    original.seed = 9;
    io::write_safetensors(folder() / "foreign.safetensors", as_pytorch(original));
    const Outcome got =
        graft("convert foreign.safetensors -o mobilenet.safetensors --model mobilenet --alpha 0.25 --input-size 32");
    ASSERT_EQ(got.code, 0) << got.error;
  }

  std::vector<double> losses(const std::string& run) const {
    std::vector<double> all;
    std::ifstream log(folder() / run / "log.jsonl");
    for (std::string line; std::getline(log, line);) all.push_back(nlohmann::json::parse(line)["train"]["loss"]);
    return all;
  }

  void expect_same_networks(const std::string& one, const std::string& other) const {
    const io::Safetensors a = io::read_safetensors(folder() / one), b = io::read_safetensors(folder() / other);
    ASSERT_EQ(a.tensors.size(), b.tensors.size());
    for (const auto& [name, value] : a.tensors) EXPECT_LT(data::largest_difference(value, b.at(name)), 1e-4) << name;
  }
};

// All layers train, so that every step runs forward and backward through the whole network.
TEST_F(DeviceOption, FinetunesAsOnTheCpu) {
  save();
  const std::string finetune =
      "finetune --weights tiny.safetensors --data data --unfreeze '*' --head 4 --batch 4 --epochs 3 --lr 0.02 "
      "--optimizer sgd --validation-split 0.34 --workers 1 --threads 1 --seed 5 --engine native --json ";
  const Outcome device = graft(finetune + "--device emulated --out device"), cpu = graft(finetune + "--out cpu");
  ASSERT_EQ(device.code, 0) << device.error;
  ASSERT_EQ(cpu.code, 0) << cpu.error;
  EXPECT_EQ(nlohmann::json::parse(read_text(folder() / "device/run.json"))["device"], "emulated");
  const std::vector<double> got = losses("device"), want = losses("cpu");
  ASSERT_EQ(got.size(), 3u);
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-4) << "epoch " << i + 1;
  EXPECT_NE(got.front(), got.back());
  EXPECT_EQ(device.json()["validation"]["top1"], cpu.json()["validation"]["top1"]);
  expect_same_networks("device/last.safetensors", "cpu/last.safetensors");
}

TEST_F(DeviceOption, SweepsAsOnTheCpu) {
  save();
  const std::string sweep =
      "sweep --weights tiny.safetensors --data data --layers relu1,pool --epochs 2 --lr 0.02 --optimizer sgd --batch 4 "
      "--validation-split 0.34 --threads 1 --seed 5 --engine native --json --quiet ";
  const Outcome device = graft(sweep + "--device emulated --out device --cache there", "GRAFT_EMULATED_CHECKS=0 "),
                cpu = graft(sweep + "--out cpu --cache here");
  ASSERT_EQ(device.code, 0) << device.error;
  ASSERT_EQ(cpu.code, 0) << cpu.error;
  const nlohmann::json got = device.json()["depths"], want = cpu.json()["depths"];
  ASSERT_EQ(got.size(), 2u);
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(got[i]["layer"], want[i]["layer"]);
    EXPECT_NEAR(got[i]["train"]["loss"].get<double>(), want[i]["train"]["loss"].get<double>(), 1e-4);
  }
}

// Whatever the order of the options.
TEST_F(DeviceOption, HasALibraryOfItsOwnOrNone) {
  save();
  for (const std::string options : {"--engine library --device emulated", "--device emulated --engine library"})
    expect_failure(graft("predict --weights tiny.safetensors data/red/0.png " + options), 1,
                   "the emulated device runs graft's own kernels alone");
}

// Whatever the order of the options.
TEST_F(DeviceOption, RoundsFactorsWhereItHasTensorCores) {
  save();
  const std::string predict = "predict --weights tiny.safetensors data/red/0.png ";
  expect_failure(graft(predict + "--tf32"), 2, "--tf32: the CPU multiplies f32 in f32");
  for (const std::string options : {"--tf32 --device emulated", "--device emulated --tf32"})
    EXPECT_EQ(graft(predict + options).code, 0);
}

TEST_F(DeviceOption, HasNoSpeedToMeasure) {
  save();
  expect_failure(graft("summary --weights tiny.safetensors --plan --device emulated"), 2, "no speed to measure");
}

TEST_F(DeviceOption, RunsAConvertedModelAsOnTheCpu) {
  convert();
  const std::string finetune =
      "finetune --weights mobilenet.safetensors --data data --batch 3 --epochs 2 --lr 0.01 --workers 1 --threads 1 "
      "--seed 5 --engine native --quiet ";
  const std::string unwatched = "GRAFT_EMULATED_CHECKS=0 ";
  ASSERT_EQ(graft(finetune + "--device emulated --out device", unwatched).code, 0);
  ASSERT_EQ(graft(finetune + "--out cpu").code, 0);
  expect_same_networks("device/last.safetensors", "cpu/last.safetensors");

  const std::string predict = "predict --run cpu data/red/0.png data/blue/1.png --json ";
  const nlohmann::json predicted = graft(predict + "--device emulated", unwatched).json(),
                       there = graft(predict).json();
  ASSERT_EQ(predicted.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(predicted[i]["top"][0]["label"], there[i]["top"][0]["label"]);
    EXPECT_NEAR(predicted[i]["top"][0]["probability"], there[i]["top"][0]["probability"], 1e-4);
  }
  const std::string evaluate = "evaluate --run cpu --data data --json ";
  EXPECT_EQ(graft(evaluate + "--device emulated", unwatched).json()["confusion"], graft(evaluate).json()["confusion"]);
  const std::string features = "features --run cpu --layer conv_pw_3_relu data/red/0.png ";
  ASSERT_EQ(graft(features + "-o device.safetensors --device emulated", unwatched).code, 0);
  ASSERT_EQ(graft(features + "-o cpu.safetensors").code, 0);
  expect_same_networks("device.safetensors", "cpu.safetensors");
}

// Before anything is read: none of these files is there.
TEST_F(DeviceOption, SaysThatThereIsNoGpu) {
  const std::string found = graft("doctor --json").json()["devices"].value("cuda:0", "");
  if (kernels::built().cuda && !found.starts_with("[")) GTEST_SKIP() << "this machine has a GPU: " << found;
  const std::string why = kernels::built().cuda ? "no GPU can be used" : "this build has no CUDA";
  for (const std::string command :
       {"finetune --weights none --data none --out run", "predict --weights none none.png",
        "evaluate --weights none --data none", "features --weights none --layer none none.png -o none",
        "sweep --weights none --data none --out sweep", "summary --weights none --plan", "report none -o none.html",
        "doctor"}) {
    SCOPED_TRACE(command);
    expect_failure(graft(command + " --device cuda"), 1, why);
    expect_failure(graft(command + " --device cuda:1"), 1, why);
    expect_failure(graft(command + " --device emulated:1"), 1, "expected cpu, cuda, cuda:N or emulated");
  }
  EXPECT_FALSE(exists("run"));
  EXPECT_FALSE(exists("sweep"));
}

}  // namespace
}  // namespace graft::tools
