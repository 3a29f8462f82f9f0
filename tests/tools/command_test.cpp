#include <sys/stat.h>

#include "graft/io/npy.h"
#include "graft/io/safetensors.h"
#include "graft/models/models.h"

#include "tools/support.h"

namespace graft::tools {
namespace {

using testing::HasSubstr;

class Command : public CommandTest {};

TEST_F(Command, EverySubcommandHasHelpWithAnExample) {
  const Outcome all = graft("--help");
  EXPECT_EQ(all.code, 0);
  for (const std::string name :
       {"convert", "info", "summary", "predict", "features", "finetune", "evaluate", "report", "doctor"}) {
    EXPECT_THAT(all.out, HasSubstr(name));
    const Outcome help = graft(name + " --help");
    EXPECT_EQ(help.code, 0) << name;
    EXPECT_THAT(help.out, HasSubstr("Example:\n  graft " + name));
  }
}

TEST_F(Command, DoctorSaysWhatThereIs) {
  const nlohmann::json found = graft("doctor --json --threads 1").json();
  EXPECT_EQ(found["threads"], 1);
  EXPECT_GT(found["memory"]["total_mib"], 100);
  EXPECT_TRUE(found["build"]["cuda"].is_boolean());
  EXPECT_TRUE(found["devices"].contains("cpu"));
  EXPECT_EQ(found["devices"].contains("emulated"), found["build"]["emulated"].get<bool>());
  EXPECT_EQ(found["devices"].contains("cuda:0"), found["build"]["cuda"].get<bool>());
  EXPECT_THAT(found["build"]["hopper"].dump(), testing::AnyOf("false", "\"proved\"", "\"not proved\""));
  EXPECT_GT(found["auto"]["library"].size() + found["auto"]["native"].size(), 20u);
  EXPECT_THAT(graft("doctor").out, HasSubstr("engine auto"));
  EXPECT_EQ(found["tf32"], false);
  if (found["devices"].contains("emulated")) {
    EXPECT_EQ(graft("doctor --json --tf32 --device emulated").json()["tf32"], true);
  }
}

TEST_F(Command, InfoDescribesAGraftFile) {
  save();
  const nlohmann::json info = graft("info tiny.safetensors --json").json();
  EXPECT_EQ(info["format"], "graft");
  EXPECT_EQ(info["network"]["name"], "tiny");
  EXPECT_EQ(info["network"]["input"], nlohmann::json({12, 12, 3}));
  EXPECT_EQ(info["tensors"], 9);
  EXPECT_EQ(info["elements"], network().parameter_count());
  EXPECT_THAT(graft("info tiny.safetensors").out, HasSubstr("conv2"));
}

TEST_F(Command, SummaryCountsParametersOfFilesAndModels) {
  save();
  const nlohmann::json file = graft("summary --weights tiny.safetensors --batch 3 --json").json();
  EXPECT_EQ(file["parameters"], network().parameter_count());
  EXPECT_EQ(file["layers"][1]["output"], nlohmann::json({3, 5, 5, 6}));
  EXPECT_EQ(graft("summary --model vgg16 --json").json()["parameters"], 138357544);
  EXPECT_EQ(graft("summary --model mobilenet --no-top --alpha 0.5 --input-size 160 --json").json()["parameters"],
            829536);
  EXPECT_THAT(graft("summary --model vgg16").out, HasSubstr("block5_conv3"));
}

TEST_F(Command, SummaryMeasuresAPlanInF16) {
  save();
  const Outcome got = graft("summary --weights tiny.safetensors --plan --precision f16 --json");
  ASSERT_EQ(got.code, 0) << got.error;
  EXPECT_EQ(got.json()["precision"], "f16");
  EXPECT_GT(got.json()["product_gflop_per_s"], 0);
}

TEST_F(Command, PredictFollowsTheSchema) {
  make_photos();
  save();
  const Outcome got = graft("predict --weights tiny.safetensors data/red/0.png data/blue/1.png --top 3 --json");
  ASSERT_EQ(got.code, 0) << got.error;
  EXPECT_EQ(got.error, "");
  const nlohmann::json list = got.json();
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0]["file"], "data/red/0.png");
  ASSERT_EQ(list[1]["top"].size(), 3u);
  double last = 1;
  for (const nlohmann::json& p : list[1]["top"]) {
    EXPECT_EQ(p["label"], std::to_string(p["index"].get<int>()));
    EXPECT_LE(p["probability"].get<double>(), last);
    last = p["probability"];
  }
  EXPECT_EQ(graft("predict --weights tiny.safetensors data/red/0.png --engine native --threads 1").code, 0);
}

// The second process finds all it needs in what the first one has written.
TEST_F(Command, PredictKeepsWhatItMakesOfWeights) {
  save();
  make_photos();
  const auto packed_files = [&] {
    std::map<std::string, ino_t> files;
    for (const auto& entry : fs::directory_iterator(folder())) {
      struct stat status {};
      const std::string name = entry.path().filename().string();
      if (name.starts_with("tiny.safetensors.packed-") && stat(entry.path().c_str(), &status) == 0)
        files[name] = status.st_ino;
    }
    return files;
  };
  const std::string predict = "predict --weights tiny.safetensors data/red/0.png --json";
  const Outcome first = graft(predict);
  const auto made = packed_files();
  EXPECT_EQ(made.size(), 1u);
  EXPECT_EQ(graft(predict).out, first.out);
  EXPECT_EQ(packed_files(), made);
}

TEST_F(Command, FeaturesOfPhotosAndOfArraysAreTheNetworksOwn) {
  make_photos();
  save();
  nn::Network expected = network();
  Tensor input = Tensor::empty({5, 12, 12, 3});
  for (Index i = 0; i < input.elements(); ++i) input.mutable_data<float>()[i] = std::sin(static_cast<float>(i));
  io::write_npy(folder() / "x.npy", input);
  ASSERT_EQ(
      graft("features --weights tiny.safetensors --layer relu1,pool --input x.npy --batch 2 -o f.safetensors").code, 0);
  const io::Safetensors file = io::read_safetensors(folder() / "f.safetensors");
  const nn::RunResult run =
      expected.run(input, {.watch = {"relu1", "pool"}, .leaves = {}, .until = {}, .given = {}, .observe = {}});
  for (const std::string layer : {"relu1", "pool"})
    EXPECT_LT(data::largest_difference(file.at(layer), run.watched.at(layer)), 1e-5) << layer;

  const Outcome photos =
      graft("features --weights tiny.safetensors --layer pool data/red/0.png data/red/1.png -o p.safetensors --json");
  EXPECT_EQ(photos.json()["layers"]["pool"], nlohmann::json({2, 8}));
  EXPECT_EQ(io::read_safetensors(folder() / "p.safetensors").metadata.at("files"),
            R"(["data/red/0.png","data/red/1.png"])");

  const Outcome folders =
      graft("features --weights tiny.safetensors --layer pool data data/red/0.png --batch 4 -o a.safetensors --json");
  EXPECT_EQ(folders.json()["layers"]["pool"], nlohmann::json({19, 8}));
  const Tensor pool = io::read_safetensors(folder() / "a.safetensors").at("pool");
  EXPECT_LT(data::largest_difference(pool.rows(18, 1),
                                     io::read_safetensors(folder() / "p.safetensors").at("pool").rows(0, 1)),
            1e-5);
}

TEST_F(Command, EvaluateReadsFoldersAndLabels) {
  make_photos();
  nn::Network made = network();
  made.classes = {"blue", "green", "red", "white"};
  io::save_network(made, folder() / "tiny.safetensors");
  const nlohmann::json folders = graft("evaluate --weights tiny.safetensors --data data --json").json();
  EXPECT_EQ(folders["photos"], 18);
  EXPECT_EQ(folders["top5"], 1.0);
  ASSERT_EQ(folders["confusion"].size(), 4u);
  int diagonal = 0, all = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    diagonal += folders["confusion"][i][i].get<int>();
    for (const auto& count : folders["confusion"][i]) all += count.get<int>();
  }
  EXPECT_EQ(all, 18);
  EXPECT_DOUBLE_EQ(folders["top1"], diagonal / 18.0);

  const int first =
      graft("predict --weights tiny.safetensors data/red/0.png --top 1 --json").json()[0]["top"][0]["index"];
  write("labels.json", nlohmann::json{{"0.png", first}}.dump());
  EXPECT_EQ(graft("evaluate --weights tiny.safetensors --data data/red --labels labels.json --json").json()["top1"],
            1.0);
  EXPECT_THAT(graft("evaluate --weights tiny.safetensors --data data").out, HasSubstr("confusion"));
}

// What a file of bare weights does not say, the report does: the size of images and how they are prepared.
TEST_F(Command, ConvertSaysWhatItAssumed) {
  nn::Network original = models::make("mobilenet", {.classes = 3, .alpha = 0.25});
  io::write_safetensors(folder() / "foreign.safetensors", as_pytorch(original));
  const std::string convert = "convert foreign.safetensors -o out.safetensors --model mobilenet --alpha 0.25 ";
  const Outcome assumed = graft(convert);
  ASSERT_EQ(assumed.code, 0) << assumed.error;
  EXPECT_THAT(assumed.out, HasSubstr("the size of images: taken as 224x224, mobilenet's usual"));
  EXPECT_THAT(assumed.out, HasSubstr("how images are prepared: taken as mobilenet's authors did"));
  EXPECT_THAT(assumed.out, HasSubstr("input [224, 224, 3]"));
  EXPECT_THAT(assumed.out,
              HasSubstr("\nimages 224x224, antialias, squash, RGB minus (127.5, 127.5, 127.5) over (127.5"));

  const nlohmann::json told = graft(convert + "--input-size 160 --preprocessing caffe --json").json();
  EXPECT_EQ(told["notes"].size(), 1u) << told["notes"];  // which model it is
  EXPECT_EQ(told["preprocessing"]["height"], 160);
  EXPECT_EQ(told["preprocessing"]["bgr"], true);
  EXPECT_THAT(graft("info out.safetensors").out, HasSubstr("BGR minus (103.939, 116.779, 123.68) over (1, 1, 1)"));

  const std::string help = graft("convert --help").out;
  EXPECT_THAT(help, HasSubstr("224"));
  EXPECT_THAT(help, HasSubstr("299"));
}

// Names and outputs must be as many, whichever is too few.
TEST_F(Command, ConvertCountsTheNamesOfClasses) {
  nn::Network top = models::make("mobilenet", {.classes = 3, .height = 32, .width = 32, .alpha = 0.25});
  io::write_safetensors(folder() / "top.safetensors", as_pytorch(top));
  write("two.json", R"({"0": ["n01", "cat"], "1": ["n02", "dog"]})");
  write("four.txt", "cat\ndog\nfish\nbird\n");
  write("gap.json", R"({"0": "cat", "2": "dog"})");
  write("empty.txt", "\n");
  write("numbers.json", "[1, 2, 3]");
  const std::string convert =
      "convert top.safetensors -o out.safetensors --model mobilenet --alpha 0.25 --input-size 32 --classes ";
  expect_failure(graft(convert + "two.json"), 1, "two.json: [predict] 'mobilenet' has 3 outputs but names for 2");
  expect_failure(graft(convert + "four.txt"), 1, "four.txt: [predict] 'mobilenet' has 3 outputs but names for 4");
  expect_failure(graft(convert + "gap.json"), 1, "gap.json: expected names of the classes 0 to 1, 1 is missing");
  expect_failure(graft(convert + "empty.txt"), 1, "empty.txt: holds no class names");
  expect_failure(graft(convert + "numbers.json"), 1, "numbers.json: expected a list of class names, got the entry 1");
  expect_failure(graft(convert + "nowhere.txt"), 1, "nowhere.txt");
  write("map.json", R"({"model": "mobilenet", "include_top": false, "ignore": ["conv_preds"]})");
  expect_failure(graft("convert top.safetensors -o out.safetensors --alpha 0.25 --classes four.txt --map map.json"), 1,
                 "four.txt: [predict] expected a classifier");
  write("map.json", R"({"model": "mobilenet", "classes": ["cat"]})");
  expect_failure(graft("convert top.safetensors -o out.safetensors --map map.json"), 1,
                 "map.json: there is no key 'classes'");
  write("map.json", R"({"model": "mobilenet"})");
  expect_failure(graft("convert top.safetensors -o out.safetensors --map map.json --model vgg16"), 1,
                 "the map is for the model 'mobilenet', --model asks for 'vgg16'");
  EXPECT_FALSE(exists("out.safetensors"));
}

TEST_F(Command, ConvertTurnsAForeignFileIntoTheNetwork) {
  nn::Network original = models::make("mobilenet", {.classes = 3, .height = 32, .width = 32, .alpha = 0.25});
  original.seed = 9;
  io::Safetensors foreign = as_pytorch(original);
  io::write_safetensors(folder() / "foreign.safetensors", foreign);
  write("names.txt", "cat\ndog\nfish\n");
  const std::string convert =
      "convert foreign.safetensors -o out.safetensors --model mobilenet --alpha 0.25 --input-size 32 ";
  const Outcome got = graft(convert + "--classes names.txt --json");
  ASSERT_EQ(got.code, 0) << got.error;
  EXPECT_EQ(got.json()["matched"].size(), original.parameters().size());
  nn::Network converted = io::load_network(folder() / "out.safetensors");
  for (const nn::Parameter* parameter : original.parameters()) {
    EXPECT_EQ(data::largest_difference(parameter->value, converted.parameter(parameter->name).value), 0)
        << parameter->name;
  }
  EXPECT_EQ(converted.classes, (std::vector<std::string>{"cat", "dog", "fish"}));
  EXPECT_EQ(converted.input_shape(), (Shape{32, 32, 3}));

  fs::remove(folder() / "out.safetensors");
  foreign.tensors.pop_back();
  io::write_safetensors(folder() / "foreign.safetensors", foreign);
  const Outcome partial = graft(convert);
  EXPECT_EQ(partial.code, 1);
  EXPECT_THAT(partial.error, HasSubstr("1 missing"));
  EXPECT_FALSE(exists("out.safetensors"));
  EXPECT_EQ(graft(convert + "--allow-partial 'conv_preds/*'").code, 0);

  const Outcome wrong = graft("convert foreign.safetensors -o wrong.safetensors --model resnet50");
  EXPECT_EQ(wrong.code, 1);
  EXPECT_THAT(wrong.error, HasSubstr("missing"));
  EXPECT_THAT(wrong.error, testing::ContainsRegex("and [0-9]+ more\n$"));  // hundreds of gaps, not hundreds of lines
  EXPECT_LT(std::count(wrong.error.begin(), wrong.error.end(), '\n'), 20);
  EXPECT_FALSE(exists("wrong.safetensors"));
}

}  // namespace
}  // namespace graft::tools
