#include <limits>
#include <span>

#include "graft/io/npy.h"
#include "graft/io/safetensors.h"
#include "graft/models/models.h"

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

  /// Neither what the commands of these tests would write nor a half of it.
  void expect_nothing_written() const {
    for (const char* name : {"run", "data/run", "f.safetensors", "out.safetensors", "report.html"})
      EXPECT_FALSE(exists(name)) << name;
    for (const auto& entry : fs::directory_iterator(folder()))
      EXPECT_EQ(entry.path().string().find(".partial-"), std::string::npos) << entry.path();
  }

  /// Every command that reads a network, on this file.
  void expect_weights_refused(const std::string& file, const std::string& says) const {
    for (const std::string& command : {"predict --weights " + file + " data/red/0.png", "summary --weights " + file,
                                       "features --weights " + file + " --layer pool data/red/0.png -o f.safetensors",
                                       "evaluate --weights " + file + " --data data",
                                       "finetune --weights " + file + " --data data --quiet --out run"}) {
      SCOPED_TRACE(command);
      expect_failure(graft(command), 1, says);
      expect_nothing_written();
    }
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
      {finetune + "--decay-of conv1", "PATTERN=DECAY"},
      {finetune + "--decay-of conv1=much", "expected a number, got 'much'"},
      {finetune + "--validation data", "folders apart"},
      {finetune + "--validation ./data/red", "folders apart, got data and ./data/red"},
      {"sweep --weights tiny.safetensors --data data/red --validation data --out run", "folders apart"},
      {finetune + "--momentum 0.9", "--momentum"},
      {finetune + "--precision f8", "--precision"},
      {finetune + "--folds 2", "--out excludes --folds"},
      {finetune + "--lr 0", "--lr: expected a number above 0, got 0"},
      {finetune + "--lr nan", "--lr: expected a number above 0, got nan"},
      {finetune + "--patience -1", "--patience: expected a number of 0 or more, got -1"},
      {finetune + "--label-smoothing 1", "--label-smoothing"},
      {"finetune --weights tiny.safetensors --data data --out data/run", "where every folder is a class"},
      {"finetune --weights tiny.safetensors --data data --out data/../data", "where every folder is a class"},
      {"convert tiny.safetensors -o out.safetensors --preprocessing soft", "--preprocessing"},
      {"convert tiny.safetensors -o ./tiny.safetensors", "which is read and would be replaced"},
      {"features --weights tiny.safetensors --layer pool data -o tiny.safetensors", "another file than tiny"},
      {"features --weights tiny.safetensors --layer pool data -o data/red/0.png", "another file than data/red/0.png"},
      {"summary --weights tiny.safetensors --model vgg16", "got two"},
      {"summary", "expected one of --weights, --run and --model, got none"},
      {"predict --weights tiny.safetensors --threads 100000 data/red/0.png", "a number from 0 to 1024, got 100000"},
      {finetune + "--workers 5000", "a number from 0 to 1024, got 5000"},
      {finetune + "--keep-head --head 8", "--keep-head"},
      {finetune + "--batch-norm batch", "no batch-norm"},
      {finetune + "--epochs 0", "--epochs"},
      {"report data -o report.html --name a --name b", "--name"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.arguments);
    expect_failure(graft(c.arguments), 2, c.says);
    expect_nothing_written();
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
      {"predict --weights tiny.safetensors --device cuda:99 data/red/0.png", "cuda"},
      {"predict --weights tiny.safetensors --device gpu data/red/0.png",
       "expected cpu, cuda, cuda:N or emulated, got 'gpu'"},
      {"features --weights tiny.safetensors --layer poool data/red/0.png -o f.safetensors", "close to it: 'pool'"},
      {"evaluate --weights tiny.safetensors --data data", "3 classes, 'tiny' has 4 outputs"},
      {"evaluate --weights tiny.safetensors --data nowhere", "nowhere"},
      {finetune + "--unfreeze 'conv9*'", "no layer of 'tiny' matches 'conv9*'; close to it: 'conv1'"},
      {finetune + "--lr-of 'conv9=1e-5'", "no layer of 'tiny' matches 'conv9'; close to it: 'conv1'"},
      {finetune + "--lr-of 'conv1=1e-5'", "frozen"},
      {finetune + "--lr-of head=-1", "expected a rate or decay of 0 or more for 'head', got -1"},
      {finetune + "--decay-of conv1=0", "'conv1=0' names a weight decay for layers that are frozen"},
      {finetune + "--cut conv9", "close to it: 'conv1'"},
      {finetune + "--freeze 'conv9*'", "no layer of 'tiny' matches 'conv9*'; close to it: 'conv1'"},
      {"finetune --weights tiny.safetensors --data data --quiet --folds 3 --unfreeze conv9", "close to it: 'conv1'"},
      {"finetune --weights tiny.safetensors --data data --quiet --folds 9", "folds, got 9"},
      {finetune + "--augment spin", "spin"},
      {finetune + "--train-last 9", "cannot train the last 9"},
      {finetune + "--warmup 999 --schedule cosine", "warm-up"},
      {finetune + "--warmup 999", "end within a warm-up of 999"},
      {finetune + "--resume --validation nowhere", "nowhere"},
      {"report data -o report.html", "run.json"},
      {"report data -o tiny.safetensors", "tiny.safetensors: is there already and is no page"},
      {"summary --model alexnet", "alexnet"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.arguments);
    expect_failure(graft(c.arguments), 1, c.says);
    expect_nothing_written();
  }
}

// As a classifier they would be measured without a word, on a softmax of what is none.
TEST_F(BadInput, NetworksWithoutScoresAreNoClassifiers) {
  for (const Activation last : {Activation::sigmoid, Activation::relu}) {
    nn::Builder b({.height = 12, .width = 12, .name = "scoreless"});
    auto x = b.add("conv", nn::Conv2d({.out = 4, .kernel = 3}), b.input());
    b.features(x);
    x = b.add("pool", nn::GlobalAveragePool(), x);
    nn::Network network = b.build(b.add("head", nn::Linear({.out = 3, .activation = last}), x));
    network.materialize();
    io::save_network(network, folder() / "scoreless.safetensors");
    for (const std::string command : {"predict --weights scoreless.safetensors data/red/0.png",
                                      "evaluate --weights scoreless.safetensors --data data",
                                      "finetune --weights scoreless.safetensors --data data --keep-head --out run"})
      expect_failure(graft(command), 1, "'scoreless' ends in " + std::string(name(last)) + ": expected scores");
  }
}

TEST_F(BadInput, WhatIsNoPhotoIsCounted) {
  write("data/red/9.webp", "RIFF");
  write("data/red/10.gif", "GIF89a");
  const std::string says = "data: 2 files are left out: photos are .jpg, .jpeg, .png and .bmp";
  for (const char* command : {"finetune --weights tiny.safetensors --data data --epochs 1 --quiet --out run",
                              "evaluate --run run --data data"}) {
    const Outcome outcome = graft(command);
    EXPECT_EQ(outcome.code, 0) << outcome.error;
    EXPECT_THAT(outcome.error, HasSubstr(says));
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

constexpr const char* kLfsPointer =
    "version https://git-lfs.github.com/spec/v1\noid "
    "sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

TEST_F(BadInput, DamagedWeightFilesAreNamed) {
  const std::string whole = read_text(folder() / "tiny.safetensors");
  const std::map<std::string, std::string> files = {
      {"short.safetensors", whole.substr(0, whole.size() / 2)},
      {"header.safetensors", whole.substr(0, 20) + "!" + whole.substr(21)},
      {"pointer.h5", kLfsPointer},
      {"page.h5", "<!DOCTYPE html><title>Not found</title>"},
      {"magic.h5", "this is no weight file, whatever its name says"},
      {"empty.h5", ""},
      {"hdf5.h5", "\x89HDF\r\n\x1a\n" + std::string(200, 'x')},
      {"zip.keras", "PK\x03\x04" + std::string(200, 'x')},
      {"pickle.pth", "\x80\x02\x8a\x0a" + std::string(200, 'x')},
  };
  for (const auto& [file, content] : files) {
    SCOPED_TRACE(file);
    write(file, content);
    expect_failure(graft("convert " + file + " -o out.safetensors"), 1, file);
    expect_failure(graft("info " + file), 1, file);
    expect_nothing_written();
    expect_weights_refused(file, file);
  }
  expect_failure(graft("convert nowhere.h5 -o out.safetensors"), 1, "nowhere.h5");
  EXPECT_THAT(graft("convert pointer.h5 -o out.safetensors").error, HasSubstr("Git LFS pointer"));
  expect_weights_refused("pointer.h5", "Git LFS pointer");
  expect_weights_refused("hdf5.h5", "'graft convert' imports other formats");
}

TEST_F(BadInput, DamagedPhotosAreNamed) {
  const std::string photo = read_text(folder() / "data/red/0.png");
  const std::map<std::string, std::string> files = {
      {"short.png", photo.substr(0, photo.size() / 2)},
      {"flipped.png", photo.substr(0, 60) + "?" + photo.substr(61)},
      {"pointer.jpg", kLfsPointer},
      {"text.jpg", "this is no photo"},
      {"empty.jpg", ""},
      {"jpeg.jpg", "\xff\xd8\xff\xe0" + std::string(100, 'x')},
  };
  for (const auto& [file, content] : files) {
    const fs::path path = write("data/red/" + file, content);
    for (const std::string& command : std::vector<std::string>{
             "predict --weights tiny.safetensors data/red/0.png data/red/" + file,
             "features --weights tiny.safetensors --layer pool data/red/" + file + " -o f.safetensors",
             "finetune --weights tiny.safetensors --data data --quiet --out run",
             "finetune --weights tiny.safetensors --data data --quiet --no-cache --validation-split 0 --out run",
             "finetune --weights tiny.safetensors --data data --quiet --folds 2"}) {
      SCOPED_TRACE(command);
      expect_failure(graft(command), 1, file);
      expect_nothing_written();
    }
    fs::remove(path);
  }
}

TEST_F(BadInput, ShapesThatDisagreeAreNamed) {
  io::Safetensors file = io::read_safetensors(folder() / "tiny.safetensors");
  for (auto& [name, value] : file.tensors) {
    if (name == "conv2/weight") value = Tensor::zeros({8, 3, 3, 5});
  }
  io::write_safetensors(folder() / "shape.safetensors", file);
  expect_weights_refused("shape.safetensors",
                         "shape.safetensors: tensor 'conv2/weight': expected [8, 3, 3, 6], got [8, 3, 3, 5]");

  io::write_npy(folder() / "x.npy", Tensor::zeros({2, 12, 11, 3}));
  const std::string features = "features --weights tiny.safetensors --layer pool -o f.safetensors --input ";
  expect_failure(graft(features + "x.npy"), 1, "x.npy: expected float32 [N, 12, 12, 3] for 'tiny', got f32 [2, 12, 11");
  io::write_npy(folder() / "x.npy", Tensor::zeros({2, 12, 12, 3}, DType::f64));
  expect_failure(graft(features + "x.npy"), 1, "got f64 [2, 12, 12, 3]");
  write("x.npy", read_text(folder() / "x.npy").substr(0, 300));
  expect_failure(graft(features + "x.npy"), 1, "x.npy");
  write("x.npy", kLfsPointer);
  expect_failure(graft(features + "x.npy"), 1, "x.npy");

  // The sentence of a conversion is followed by the list of its gaps.
  nn::Network other = models::make("mobilenet", {.classes = 3, .height = 32, .width = 32, .alpha = 0.25});
  io::write_safetensors(folder() / "other.safetensors", as_pytorch(other));
  const Outcome got = graft("convert other.safetensors -o out.safetensors --model mobilenet --alpha 0.5");
  EXPECT_EQ(got.code, 1);
  EXPECT_THAT(got.error, testing::StartsWith("graft: other.safetensors: the weights do not fit mobilenet: "));
  EXPECT_THAT(got.error, HasSubstr("mismatched  conv1/weight: expected [16, 3, 3, 3], got [8, 3, 3, 3]"));
  EXPECT_EQ(got.out, "");
  expect_nothing_written();
}

TEST_F(BadInput, WeightsThatAreNotNumbersAreNamed) {
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    nn::Network made = network();
    made.materialize();
    made.parameter("conv2/weight").value.mutable_data<float>()[3] = value;
    io::save_network(made, folder() / "nan.safetensors");
    expect_weights_refused("nan.safetensors", "conv2/weight");
  }
  io::Safetensors foreign;
  foreign.tensors.emplace_back("conv1.weight", Tensor::full({16, 3, 3, 3}, std::nan("")));
  io::write_safetensors(folder() / "foreign.safetensors", foreign);
  expect_failure(graft("convert foreign.safetensors -o out.safetensors --model mobilenet --alpha 0.5"), 1,
                 "conv1.weight");
  expect_nothing_written();
}

TEST_F(BadInput, DamagedRunsAreNamed) {
  const std::string finetune = "finetune --weights tiny.safetensors --data data --quiet --epochs 2 --out run ";
  ASSERT_EQ(graft(finetune).code, 0);
  const fs::path checkpoint = folder() / "run/checkpoint.safetensors";
  const std::string whole = read_text(checkpoint);
  write("run/checkpoint.safetensors", whole.substr(0, whole.size() - 10));
  expect_failure(graft(finetune + "--resume"), 1, "run/checkpoint.safetensors");
  fs::copy_file(folder() / "tiny.safetensors", checkpoint, fs::copy_options::overwrite_existing);
  expect_failure(graft(finetune + "--resume"), 1, "expected a checkpoint of a training run");
  write("run/checkpoint.safetensors", whole);
  expect_failure(graft(finetune + "--resume --lr 0.5"), 1, "the run was made with options 'learning_rate' 0.001");
  write("run/run.json", "{");
  expect_failure(graft(finetune + "--resume"), 1, "run/run.json: expected a JSON object, got no JSON");
  expect_failure(graft("report run -o report.html"), 1, "run/run.json: expected a JSON object, got no JSON");
  write("run/best.safetensors", whole.substr(0, 100));
  expect_failure(graft("predict --run run data/red/0.png"), 1, "run/best.safetensors");
  expect_failure(graft("evaluate --run run --data data"), 1, "run/best.safetensors");
  EXPECT_FALSE(exists("report.html"));
}

TEST_F(BadInput, FoldersWithoutPhotosAreNamed) {
  fs::create_directories(folder() / "data/yellow");
  expect_failure(graft("finetune --weights tiny.safetensors --data data --quiet --out run"), 1, "yellow");
  expect_failure(graft("evaluate --weights tiny.safetensors --data data"), 1, "yellow");
  expect_nothing_written();
  fs::remove(folder() / "data/yellow");
  fs::create_directories(folder() / "held/blue");
  expect_failure(graft("finetune --weights tiny.safetensors --data data --quiet --validation held --out run"), 1,
                 "blue");
  expect_failure(graft("finetune --weights tiny.safetensors --data data/red --quiet --out run"), 1,
                 "data/red: expected a folder for each class, got none");
  expect_nothing_written();
  write("labels.json", R"({"0.png": 99})");
  expect_failure(graft("evaluate --weights tiny.safetensors --data data/red --labels labels.json"), 1, "99");
  write("labels.json", "[1, 2]");
  expect_failure(graft("evaluate --weights tiny.safetensors --data data/red --labels labels.json"), 1, "labels.json");
}

TEST_F(BadInput, NamesThatAreNotUtf8AreNamed) {
  write("latin1.txt", "caf\xe9\nth\xe9\n");
  expect_failure(graft("convert tiny.safetensors -o out.safetensors --classes latin1.txt"), 1,
                 "latin1.txt: expected class names in UTF-8");
  fs::copy(folder() / "data/red", folder() / "data/caf\xe9");
  expect_failure(graft("finetune --weights tiny.safetensors --data data --quiet --out run"), 1,
                 "data/caf\xe9: expected the name of a class in UTF-8");
  expect_nothing_written();
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

// A limit on the size of files stops a write in the middle, as a full disk does.
TEST_F(BadInput, AFullDiskIsNamedAndLeavesNothing) {
  const std::string limit = "ulimit -f 2; ";  // blocks of 512 or 1024 bytes: less than any of these files
  nn::Network top = models::make("mobilenet", {.classes = 3, .height = 32, .width = 32, .alpha = 0.25});
  io::write_safetensors(folder() / "mobilenet.safetensors", as_pytorch(top));
  ASSERT_EQ(graft("finetune --weights tiny.safetensors --data data --quiet --epochs 1 --out good").code, 0);
  struct Case {
    std::string arguments, says;
  };
  for (const Case& c :
       {Case{"convert mobilenet.safetensors -o out.safetensors --model mobilenet --alpha 0.25", "out.safetensors"},
        Case{"features --weights tiny.safetensors --layer input,conv2 data/red/0.png data/red/1.png -o "
             "f.safetensors",
             "f.safetensors"},
        Case{"finetune --weights tiny.safetensors --data data --quiet --epochs 2 --out run", "run/best.safetensors"},
        Case{"report good -o report.html", "report.html"}}) {
    SCOPED_TRACE(c.arguments);
    const Outcome got = graft(c.arguments, limit);
    expect_failure(got, 1, c.says);
    EXPECT_THAT(got.error, HasSubstr("could not be written"));
    expect_nothing_written();
  }
  ASSERT_EQ(graft("convert mobilenet.safetensors -o out.safetensors --model mobilenet --alpha 0.25").code, 0)
      << "without the limit";
}

// What a run had written before the disk was full is whole, and enough to go on from when there is room again.
TEST_F(BadInput, AFullDiskLaterInARunKeepsItsCheckpoint) {
  const std::string finetune = "finetune --weights tiny.safetensors --data data --quiet --seed 5 --threads 1 ";
  ASSERT_EQ(graft(finetune + "--epochs 3 --out whole").code, 0);
  ASSERT_EQ(graft(finetune + "--epochs 1 --out run").code, 0);
  std::map<std::string, std::string> before;
  for (const char* file : {"best.safetensors", "last.safetensors", "checkpoint.safetensors", "run.json"})
    before[file] = read_text(folder() / "run" / file);
  const Outcome got = graft(finetune + "--epochs 3 --resume --out run", "ulimit -f 2; ");
  expect_failure(got, 1, "could not be written");
  for (const auto& [file, content] : before) EXPECT_EQ(read_text(folder() / "run" / file), content) << file;
  for (const auto& entry : fs::directory_iterator(folder() / "run"))
    EXPECT_EQ(entry.path().string().find(".partial-"), std::string::npos) << entry.path();
  ASSERT_EQ(graft(finetune + "--epochs 3 --resume --out run").code, 0);
  EXPECT_TRUE(read_text(folder() / "run/last.safetensors") == read_text(folder() / "whole/last.safetensors"));
}

TEST_F(BadInput, ANetworkOfGraftIsNotConvertedAgain) {
  expect_failure(graft("convert tiny.safetensors -o out.safetensors --model mobilenet"), 1,
                 "tiny.safetensors: is a network of graft already");
  expect_nothing_written();
}

// 1e5 is no number of f16.
TEST_F(BadInput, ALossThatIsNotFiniteIsNotScored) {
  nn::Network large = network();
  large.materialize();
  large.classes = {"blue", "green", "red", "white"};
  for (float& bias : std::span(large.parameter("top/bias").value.mutable_data<float>(), 4)) bias = 1e5f;
  io::save_network(large, folder() / "large.safetensors");
  const Outcome got = graft("evaluate --weights large.safetensors --data data --precision f16");
  expect_failure(got, 1, "data: the loss over its photos is");
  EXPECT_THAT(got.error, HasSubstr("do not fit f16"));
  EXPECT_EQ(graft("evaluate --weights large.safetensors --data data").code, 0);
}

TEST_F(BadInput, ARunThatDivergesAtOnceNamesTheLayerAndLeavesNoFolder) {
  const Outcome got = graft(
      "finetune --weights tiny.safetensors --data data --quiet --unfreeze '*' --optimizer sgd --lr 1e30 --epochs 30 "
      "--out run");
  expect_failure(got, 1, "not finite");
  EXPECT_THAT(got.error, HasSubstr("layer '"));
  EXPECT_FALSE(exists("run"));
}

}  // namespace
}  // namespace graft::tools
