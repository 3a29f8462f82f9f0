#include "graft/io/convert.h"

#include "graft/io/network_file.h"
#include "graft/predict/predictor.h"

#include "common.h"
#include "nn/preprocessing_json.h"

namespace graft::tools {
namespace {

struct Options {
  std::filesystem::path file, out, classes;
  io::ConvertOptions convert;
  bool json = false;
};

// Printed for people; every tensor's name only on request.
void report(const Options& options, nn::Network& network, const io::ConversionReport& found) {
  if (options.json) {
    Json matched = Json::array();
    for (const auto& match : found.matched)
      matched.push_back({{"parameter", match.parameter}, {"source", match.source}});
    print_json(Json{{"file", options.file.string()},
                    {"out", options.out.string()},
                    {"network", network.name},
                    {"input", network.input_shape().to_string()},
                    {"preprocessing", nn::preprocessing_json<Json>(network.preprocessing)},
                    {"parameters", network.parameter_count()},
                    {"matched", matched},
                    {"missing", found.missing},
                    {"unexpected", found.unexpected},
                    {"mismatched", found.mismatched},
                    {"notes", found.notes}});
    return;
  }
  say("{}", found.to_string());
  say("{}: {}, input {}, {} parameters\n", options.out.string(), network.name, network.input_shape(),
      grouped(network.parameter_count()));
  say("images {}\n", in_words(nn::preprocessing_json<Json>(network.preprocessing)));
}

void convert(const Options& options) {
  check_not_read(options.out, {options.file, options.convert.map, options.classes});
  io::ConvertOptions o = options.convert;
  if (!options.classes.empty()) o.classes = read_class_names(options.classes);
  io::Conversion converted = io::convert(options.file, o);
  // A classifier's outputs and names must be as many; a network without a top has neither.
  if (!o.classes.empty()) {
    try {
      static_cast<void>(predict::Predictor(converted.network));
    } catch (const Error& error) {
      fail("{}: {}", options.classes.string(), error.what());
    }
  }
  io::save_network(converted.network, options.out, {{"source", options.file.filename().string()}});
  report(options, converted.network, converted.report);
}

}  // namespace

void add_convert(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* c = add_command(app, "convert", "Import a Keras (.h5, .weights.h5, .keras), PyTorch or safetensors file",
                            "graft convert mobilenet_1_0_224_tf.h5 -o mobilenet.safetensors");
  c->add_option("file", o->file, "The weight file; its format is recognised by its content")
      ->required()
      ->type_name("FILE");
  c->add_option("-o,--out", o->out, "The safetensors file to write")->required()->type_name("OUT");
  c->add_option("--model", o->convert.model,
                "The network, where the file does not say: " + fmt::format("{}", fmt::join(models::names(), ", ")))
      ->type_name("NAME");
  c->add_option("--map", o->convert.map, "A JSON map of names, for a layout made by hand")->type_name("MAP.json");
  c->add_option("--alpha", o->convert.alpha, "MobileNet's width, where the weights do not tell it")->check(positive());
  c->add_option(
       "--input-size", o->convert.input_size,
       "Height and width of the images; if not given, what the file says, and where it holds weights alone the "
       "model's usual 224 (inception_v3: 299)")
      ->check(positive())
      ->default_str("");
  c->add_option("--preprocessing", o->convert.preprocessing,
                "How pixels are prepared; if not given, what the map says, or as the model's authors did")
      ->check(CLI::IsMember({"caffe", "tf", "torch", "none"}));
  c->add_option("--classes", o->classes,
                "Names of the classes: a JSON list, Keras's JSON index, or a text with one a line")
      ->type_name("FILE");
  c->add_option("--allow-partial", o->convert.allow_partial,
                "A glob over parameters or tensors that may lack a partner; repeat for more")
      ->type_name("GLOB")
      ->allow_extra_args(false)
      ->default_str("")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  c->add_flag("--json", o->json, "Report as JSON, with every match");
  c->callback([o] { convert(*o); });
}

}  // namespace graft::tools
