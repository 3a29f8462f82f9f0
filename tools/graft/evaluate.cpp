#include "graft/train/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "graft/predict/predictor.h"

#include "common.h"

namespace graft::tools {
namespace {

struct Options {
  WeightsOption weights;
  std::filesystem::path data, labels;
  Index batch = 16;
  int workers = 0;
  std::string precision = "f32";
  bool json = false;
};

// Folders are classes by name: all of the network's, or some of them. Of a network without names they must be as many
// as its outputs.
data::ImageFolder read_data(const Options& options, const predict::Predictor& predictor) {
  if (!options.labels.empty()) return data::read_labelled_photos(options.data, options.labels);
  data::ImageFolder photos = data::read_image_folder(options.data);
  tell_ignored(options.data, photos.ignored);
  const std::vector<std::string>& known = predictor.network().classes;
  if (known.empty()) {
    check(static_cast<Index>(photos.classes.size()) == predictor.classes(),
          "{}: has folders of {} classes, '{}' has {} outputs without names; say which photo is of which class with "
          "--labels",
          options.data.string(), photos.classes.size(), predictor.network().name, predictor.classes());
    return photos;
  }
  for (Index& label : photos.labels) {
    const std::string& folder = photos.classes[static_cast<std::size_t>(label)];
    const auto found = std::find(known.begin(), known.end(), folder);
    check(found != known.end(), "{}: the folder '{}' is not one of the network's classes ({})", options.data.string(),
          folder, fmt::join(known.begin(), known.begin() + std::min<std::ptrdiff_t>(10, std::ssize(known)), ", "));
    label = found - known.begin();
  }
  photos.classes = known;
  return photos;
}

void show(const train::Metrics& metrics, const predict::Predictor& predictor, double milliseconds) {
  constexpr Index kMostClasses = 20;  // of a table that fits a screen
  say("{} photos  top-1 {:.4f}  top-5 {:.4f}  loss {:.4f}  {:.1f} ms a photo\n", metrics.count(), metrics.top1(),
      metrics.top5(), metrics.loss(), milliseconds);
  if (predictor.classes() > kMostClasses) return;
  std::size_t width = 5;
  for (Index i = 0; i < predictor.classes(); ++i) width = std::max(width, predictor.label(i).size());
  say("\nconfusion: a row is what is on the photo, a column what the network says\n{:<{}}", "", width);
  for (Index i = 0; i < predictor.classes(); ++i) say(" {:>5}", i);
  say("\n");
  const std::vector<std::vector<Index>> confusion = metrics.confusion();
  for (Index i = 0; i < predictor.classes(); ++i) {
    say("{:<{}}", predictor.label(i), width);
    for (const Index count : confusion[static_cast<std::size_t>(i)]) say(" {:>5}", count);
    say("\n");
  }
}

void evaluate(const Options& options) {
  const auto predictor = predict::Predictor::load(options.weights.file());
  const data::ImageFolder photos = read_data(options, predictor);
  nn::Network network = predictor.network();
  const auto start = std::chrono::steady_clock::now();
  const train::Metrics metrics =
      train::evaluate(network, photos, options.batch, options.workers, dtype_from_name(options.precision));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  check(std::isfinite(metrics.loss()), "{}: the loss over its photos is {}: the network's values do not fit {}",
        options.data.string(), metrics.loss(), options.precision);
  const double milliseconds = 1000 * seconds / static_cast<double>(metrics.count());
  if (!options.json) return show(metrics, predictor, milliseconds);
  Json classes = Json::array();
  for (Index i = 0; i < predictor.classes(); ++i) classes.push_back(predictor.label(i));
  print_json(Json{{"photos", metrics.count()},
                  {"top1", metrics.top1()},
                  {"top5", metrics.top5()},
                  {"loss", metrics.loss()},
                  {"milliseconds_per_photo", milliseconds},
                  {"classes", classes},
                  {"confusion", metrics.confusion()}});
}

}  // namespace

void add_evaluate(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* c = add_command(app, "evaluate", "Measure a classifier on labelled photos",
                            "graft evaluate --run flowers-run --data photos/test");
  add_weights_option(*c, o->weights);
  c->add_option("--data", o->data, "A folder with a folder for each class, or with photos side by side and --labels")
      ->required()
      ->type_name("DIR");
  c->add_option("--labels", o->labels, "A JSON object {\"photo.jpg\": class number}")->type_name("labels.json");
  c->add_option("--batch", o->batch, "Photos at once")->check(positive());
  c->add_option("--workers", o->workers, "Threads that read photos; by default as many as --threads, at most 4")
      ->check(thread_count());
  c->add_option("--precision", o->precision, "Of activations")->check(CLI::IsMember({"f32", "bf16", "f16"}));
  c->add_flag("--json", o->json, "As JSON, with the confusion matrix [on the photo][predicted]");
  add_machine_options(*c);
  c->callback([o] { evaluate(*o); });
}

}  // namespace graft::tools
