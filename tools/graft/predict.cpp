#include "graft/predict/predictor.h"

#include "common.h"

namespace graft::tools {
namespace {

struct Options {
  WeightsOption weights;
  std::vector<std::filesystem::path> images;
  Index top = 5;
  bool json = false, quiet = false;
};

void predict(const Options& options) {
  const auto predictor = predict::Predictor::load(options.weights.file());
  const std::vector<std::filesystem::path>& images = options.images;
  std::vector<std::vector<predict::Prediction>> predictions;
  {
    Counter counter("predicting photo", static_cast<Index>(images.size()), options.quiet);
    Index done = 0;
    predictions = predictor.predict(images, options.top, [&](Index photos) { counter.show(done += photos); });
  }
  Json all = Json::array();
  for (std::size_t i = 0; i < images.size(); ++i) {
    Json top = Json::array();
    for (const predict::Prediction& p : predictions[i])
      top.push_back({{"index", p.index}, {"label", p.label}, {"probability", p.probability}});
    all.push_back({{"file", images[i].string()}, {"top", top}});
  }
  if (options.json) return print_json(all);
  for (std::size_t i = 0; i < images.size(); ++i) {
    say("{}\n", images[i].string());
    for (const predict::Prediction& p : predictions[i]) say("  {:6.2f} %  {}\n", 100 * p.probability, p.label);
  }
}

}  // namespace

void add_predict(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* c = add_command(app, "predict", "Name what is on photos",
                            "graft predict --weights efficientnet.safetensors --top 3 cat.jpg dog.png");
  add_weights_option(*c, o->weights);
  c->add_option("images", o->images, "JPEG, PNG or BMP files")->required()->type_name("IMAGE");
  c->add_option("--top", o->top, "Classes a photo")->check(positive());
  c->add_flag("--json", o->json,
              "A list with {\"file\", \"top\": [{\"index\", \"label\", \"probability\"}]} for each photo");
  c->add_flag("--quiet", o->quiet, "No progress on standard error");
  add_machine_options(*c);
  c->callback([o] { predict(*o); });
}

}  // namespace graft::tools
