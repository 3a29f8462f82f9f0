#include <limits>

#include "tools/support.h"

namespace graft::tools {
namespace {

using testing::HasSubstr;

/// What is wrong ends in one sentence, an exit code and no file.
class BadInput : public CommandTest {
 protected:
  void SetUp() override {
    make_photos("data", 2);
    save();
  }
};

TEST_F(BadInput, NonsenseOptionsEndInCode2) {
  const std::string finetune = "finetune --weights tiny.safetensors --data data --quiet --out run ";
  struct Case {
    std::string arguments, says;
  };
  const std::vector<Case> cases = {
      {"", "subcommand"},
      {"paint", "paint"},
      {"predict --weights tiny.safetensors", "images"},
      {"predict data/red/0.png", "--weights and --run, got neither"},
      {"predict --weights tiny.safetensors --run run data/red/0.png", "got both"},
      {"predict --weights tiny.safetensors --top 0 data/red/0.png", "--top"},
      {"predict --weights tiny.safetensors --engine warp data/red/0.png", "--engine"},
      {"summary --weights tiny.safetensors --alpha 0.5", "--model"},
      {"features --weights tiny.safetensors --layer pool -o f.safetensors", "--input or photos, got neither"},
      {"features --weights tiny.safetensors --layer pool --input x.npy data/red/0.png -o f.safetensors", "got both"},
      {finetune + "--freeze 'conv*' --train-last 1", "--train-last"},
      {finetune + "--freeze 'conv*' --unfreeze bn1", "--unfreeze"},
      {finetune + "--validation data --validation-split 0.3", "--validation-split"},
      {finetune + "--dropout 1.5", "--dropout"},
      {finetune + "--head wide", "--head"},
      {finetune + "--lr-of conv1", "PATTERN=RATE"},
      {finetune + "--lr-of conv1=fast", "expected a number, got 'fast'"},
      {finetune + "--momentum 0.9", "--momentum"},
      {finetune + "--keep-head --head 8", "--keep-head"},
      {finetune + "--batch-norm batch", "no batch-norm"},
      {finetune + "--epochs 0", "--epochs"},
      {"report data -o report.html --name a --name b", "--name"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.arguments);
    expect_failure(graft(c.arguments), 2, c.says);
    EXPECT_FALSE(exists("run"));
    EXPECT_FALSE(exists("f.safetensors"));
    EXPECT_FALSE(exists("report.html"));
  }
}

TEST_F(BadInput, WhatCannotBeDoneEndsInCode1) {
  const std::string finetune = "finetune --weights tiny.safetensors --data data --quiet --out run ";
  struct Case {
    std::string arguments, says;
  };
  const std::vector<Case> cases = {
      {"predict --weights nowhere.safetensors data/red/0.png", "nowhere.safetensors"},
      {"predict --run data data/red/0.png", "best.safetensors"},
      {"predict --weights tiny.safetensors nowhere.png", "nowhere.png"},
      {"predict --weights tiny.safetensors --device cuda data/red/0.png", "--device cuda"},
      {"predict --weights tiny.safetensors --device emulated data/red/0.png", "--device emulated"},
      {"features --weights tiny.safetensors --layer poool data/red/0.png -o f.safetensors", "close to it: 'pool'"},
      {"evaluate --weights tiny.safetensors --data data", "3 classes, 'tiny' has 4 outputs"},
      {"evaluate --weights tiny.safetensors --data nowhere", "nowhere"},
      {finetune + "--unfreeze 'conv9*'", "no layer of 'tiny' matches 'conv9*'; close to it: 'conv1'"},
      {finetune + "--lr-of 'conv9=1e-5'", "no layer of 'tiny' matches 'conv9'; close to it: 'conv1'"},
      {finetune + "--lr-of 'conv1=1e-5'", "frozen"},
      {finetune + "--cut conv9", "close to it: 'conv1'"},
      {finetune + "--augment spin", "spin"},
      {finetune + "--train-last 9", "cannot train the last 9"},
      {finetune + "--warmup 999 --schedule cosine", "warm-up"},
      {finetune + "--resume --validation nowhere", "nowhere"},
      {"report data -o report.html", "run.json"},
      {"summary --model alexnet", "alexnet"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.arguments);
    expect_failure(graft(c.arguments), 1, c.says);
    EXPECT_FALSE(exists("run"));
    EXPECT_FALSE(exists("f.safetensors"));
    EXPECT_FALSE(exists("report.html"));
  }
}

TEST_F(BadInput, WhatTheBuildIsWithoutNamesItsOption) {
  const nlohmann::json found = graft("doctor --json").json();
  for (const auto& [part, option] : std::map<std::string, std::string>{{"onednn", "GRAFT_WITH_ONEDNN=ON"},
                                                                       {"hdf5", "GRAFT_WITH_HDF5=ON"},
                                                                       {"turbojpeg", "GRAFT_WITH_TURBOJPEG=ON"},
                                                                       {"openmp", "GRAFT_WITH_OPENMP=ON"}}) {
    const bool warned = found["warnings"].dump().find(option) != std::string::npos;
    EXPECT_EQ(warned, found["build"][part] == false) << part;
  }
  if (found["build"]["onednn"] == false)
    expect_failure(graft("predict --weights tiny.safetensors --engine library data/red/0.png"), 1,
                   "-DGRAFT_WITH_ONEDNN=ON");
  if (found["build"]["hdf5"] == false) {
    write("weights.h5", "\x89HDF\r\n\x1a\n and what a reader would make of it");
    expect_failure(graft("convert weights.h5 -o out.safetensors"), 1, "-DGRAFT_WITH_HDF5=ON");
    EXPECT_FALSE(exists("out.safetensors"));
  }
}

TEST_F(BadInput, DamagedFilesAreNamed) {
  const std::string whole = read_text(folder() / "tiny.safetensors");
  write("short.safetensors", whole.substr(0, whole.size() / 2));
  write("pointer.h5",
        "version https://git-lfs.github.com/spec/v1\noid "
        "sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n");
  write("magic.h5", "this is no weight file, whatever its name says");
  write("empty.h5", "");
  for (const std::string file : {"short.safetensors", "pointer.h5", "magic.h5", "empty.h5", "nowhere.h5"}) {
    SCOPED_TRACE(file);
    expect_failure(graft("convert " + file + " -o out.safetensors"), 1, file);
    expect_failure(graft("info " + file), 1, file);
    EXPECT_FALSE(exists("out.safetensors"));
  }
  EXPECT_THAT(graft("convert pointer.h5 -o out.safetensors").error, HasSubstr("LFS"));
  expect_failure(graft("predict --weights short.safetensors data/red/0.png"), 1, "short.safetensors");

  const std::string photo = read_text(folder() / "data/red/0.png");
  write("data/red/short.png", photo.substr(0, photo.size() / 2));
  expect_failure(graft("predict --weights tiny.safetensors data/red/short.png"), 1, "short.png");
  expect_failure(graft("finetune --weights tiny.safetensors --data data --quiet --out run"), 1, "short.png");
  EXPECT_FALSE(exists("run"));
}

TEST_F(BadInput, WeightsThatAreNotNumbersAreNamed) {
  nn::Network made = network();
  made.materialize();
  made.parameter("conv2/weight").value.mutable_data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
  io::save_network(made, folder() / "nan.safetensors");
  expect_failure(graft("predict --weights nan.safetensors data/red/0.png"), 1, "conv2/weight");
  expect_failure(graft("finetune --weights nan.safetensors --data data --quiet --out run"), 1, "conv2/weight");
  EXPECT_FALSE(exists("run"));
}

TEST_F(BadInput, FoldersWithoutPhotosAreNamed) {
  fs::create_directories(folder() / "data/yellow");
  expect_failure(graft("finetune --weights tiny.safetensors --data data --quiet --out run"), 1, "yellow");
  EXPECT_FALSE(exists("run"));
  write("labels.json", R"({"0.png": 99})");
  expect_failure(graft("evaluate --weights tiny.safetensors --data data/red --labels labels.json"), 1, "99");
  write("labels.json", "[1, 2]");
  expect_failure(graft("evaluate --weights tiny.safetensors --data data/red --labels labels.json"), 1, "labels.json");
}

TEST_F(BadInput, OutputThatCannotBeWrittenIsNamed) {
  expect_failure(graft("features --weights tiny.safetensors --layer pool data/red/0.png -o /dev/full"), 1, "/dev/full");
  expect_failure(graft("features --weights tiny.safetensors --layer pool data/red/0.png -o nowhere/f.safetensors"), 1,
                 "nowhere");
  expect_failure(graft("finetune --weights tiny.safetensors --data data --quiet --out tiny.safetensors/run"), 1,
                 "tiny.safetensors/run");
  const std::string line = "cd '" + folder().string() +
                           "' && '" GRAFT_COMMAND
                           "' predict --weights tiny.safetensors data/red/0.png > /dev/full 2> .error";
  EXPECT_EQ(WEXITSTATUS(std::system(line.c_str())), 1);
  EXPECT_THAT(read_text(folder() / ".error"), HasSubstr("standard output"));
}

TEST_F(BadInput, ADivergingRunNamesTheEpochAndLeavesNoFolder) {
  const Outcome got = graft(
      "finetune --weights tiny.safetensors --data data --quiet --unfreeze '*' --optimizer sgd --lr 1e30 --epochs 30 "
      "--out run");
  expect_failure(got, 1, "not finite");
}

}  // namespace
}  // namespace graft::tools
