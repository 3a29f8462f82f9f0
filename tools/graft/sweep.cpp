#include "graft/train/sweep.h"

#include "graft/core/context.h"
#include "graft/io/file.h"
#include "graft/io/network_file.h"
#include "graft/study/sweep_page.h"

#include "training.h"

namespace graft::tools {
namespace {

namespace fs = std::filesystem;

struct Options {
  fs::path weights, out;
  DataOptions data;
  CacheOptions cache;
  std::vector<std::string> layers;
  std::string optimizer = "adam", schedule = "constant", precision = "f32";
  bool probe = false, json = false, quiet = false;
  train::SweepOptions sweep;
};

Json scores_json(const train::Scores& s) { return {{"loss", s.loss}, {"top1", s.top1}, {"top5", s.top5}}; }

Json to_json(const Options& options, const nn::Network& backbone, const Photos& photos, const train::Sweep& sweep) {
  Json depths = Json::array();
  for (const train::Depth& depth : sweep.depths) {
    const train::EpochRecord& best = depth.report.best();
    Json epochs = Json::array();
    for (const train::EpochRecord& epoch : depth.report.epochs) {
      epochs.push_back({{"train", scores_json(epoch.train)},
                        {"validation", epoch.validation ? scores_json(*epoch.validation) : Json()}});
    }
    depths.push_back({{"layer", depth.layer},
                      {"channels", depth.width},
                      {"flops", depth.operations},
                      {"trained", depth.trained},
                      {"best_epoch", depth.report.best_epoch},
                      {"train", scores_json(best.train)},
                      {"validation", best.validation ? scores_json(*best.validation) : Json()},
                      {"epochs", epochs},
                      {"seconds", depth.report.seconds}});
  }
  return {{"network", backbone.name},
          {"weights", options.weights.string()},
          {"data", options.data.data.string()},
          {"fine_tune", sweep.fine_tune},
          {"photos", {{"train", photos.train.size()}, {"validation", photos.validation.size()}}},
          {"depths", depths},
          {"seconds", sweep.seconds},
          {"frozen_seconds", sweep.frozen_seconds}};
}

void show(const Options& options, const train::Sweep& sweep) {
  say("{:<32} {:>8} {:>10} {:>12} {:>7} {:>8} {:>6}\n", "layer", "channels", "GFLOP", "trained", "top-1", "loss",
      "epoch");
  for (const train::Depth& depth : sweep.depths) {
    const train::EpochRecord& best = depth.report.best();
    const train::Scores& scores = best.validation ? *best.validation : best.train;
    say("{:<32} {:>8} {:>10.3f} {:>12} {:>7.4f} {:>8.4f} {:>6}\n", depth.layer, depth.width, 1e-9 * depth.operations,
        grouped(depth.trained), scores.top1, scores.loss, depth.report.best_epoch);
  }
  say("{:.1f} s, of which {:.1f} s for what is frozen; {}\n", sweep.seconds, sweep.frozen_seconds,
      (options.out / "sweep.html").string());
}

void sweep(Options options) {
  check_apart(options.out, options.data);
  check_usage(options.sweep.train.optimizer.momentum == 0 || options.optimizer == "sgd",
              "--momentum is an option of --optimizer sgd, not of {}", options.optimizer);
  train::TrainOptions& train = options.sweep.train;
  train.optimizer.algorithm = optim::algorithm_from_name(options.optimizer);
  train.schedule.kind = optim::schedule_from_name(options.schedule);
  train.precision = dtype_from_name(options.precision);
  train.progress = options.quiet ? train::Progress::none : train::Progress::automatic;
  apply(options.cache, train);
  options.sweep.layers = split_commas(options.layers);

  const Photos photos = read_photos(options.data, train.seed);
  nn::Network network = io::load_network(options.weights);
  network.seed = train.seed;
  nn::Network backbone = backbone_of(network);
  train::Sweep result;
  Json json;
  work_in(options.out, {"sweep.json"}, [&] {
    result = train::sweep(backbone, photos.train, photos.validation, options.sweep);
    json = to_json(options, backbone, photos, result);
    io::write_file_atomically(options.out / "sweep.json",
                              json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
    study::write_sweep_page(result, backbone.name, options.out / "sweep.html");
  });
  if (options.json) return print_json(json);
  show(options, result);
}

void add_training_options(CLI::App& c, Options& o) {
  constexpr const char* kGroup = "Training";
  train::TrainOptions& t = o.sweep.train;
  c.add_option("--epochs", t.epochs, "Of each run: times that every photo is seen")->check(positive())->group(kGroup);
  c.add_option("--batch", t.batch, "Photos a step")->check(positive())->group(kGroup);
  c.add_option("--optimizer", o.optimizer, "Update rule")
      ->check(CLI::IsMember({"sgd", "adam", "adamw"}))
      ->group(kGroup);
  c.add_option("--lr", t.optimizer.learning_rate, "Learning rate")->check(positive())->group(kGroup);
  c.add_option("--momentum", t.optimizer.momentum, "Of sgd")->check(CLI::Range(0.0, 1.0))->group(kGroup);
  c.add_option("--weight-decay", t.optimizer.weight_decay, "Of all trained weights")
      ->check(not_negative())
      ->group(kGroup);
  c.add_option("--schedule", o.schedule, "How the rate falls")
      ->check(CLI::IsMember({"constant", "step", "cosine"}))
      ->group(kGroup);
  c.add_option("--patience", t.patience, "Stop a run after so many epochs without a better one; 0 never does")
      ->check(not_negative())
      ->group(kGroup);
  c.add_option("--precision", o.precision, "Of activations")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->group(kGroup);
  c.add_option("--seed", t.seed, "Of the heads, the split and the order")->check(not_negative())->group(kGroup);
  c.add_option("--workers", t.workers, "Threads that read photos; by default as many as --threads, at most 4")
      ->check(thread_count())
      ->group(kGroup);
  add_cache_options(c, o.cache, kGroup);
}

}  // namespace

void add_sweep(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* c =
      add_command(app, "sweep", "Train at every depth of a network and show how accuracy follows depth",
                  "graft sweep --weights resnet50.safetensors --data flowers --epochs 20 --out flowers-sweep");
  c->add_option("--weights", o->weights, "The network to start from")->required()->type_name("FILE");
  add_data_options(*c, o->data);
  c->add_option("--out", o->out, "The folder for sweep.json and sweep.html")->required()->type_name("DIR");
  c->add_option("--layers", o->layers, "Where, with commas between them; the ends of the network's blocks if not given")
      ->type_name("A[,B...]")
      ->allow_extra_args(false)
      ->default_str("")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  CLI::Option* probe = c->add_flag("--probe", o->probe,
                                   "Train a linear classifier on each layer's value, averaged over the image (the "
                                   "default); the network runs once over the photos");
  c->add_flag("--fine-tune", o->sweep.fine_tune,
              "Put a linear classifier on the whole network, and train all layers behind each layer with it")
      ->excludes(probe);
  add_training_options(*c, *o);
  c->add_flag("--json", o->json, "Print the result as JSON");
  c->add_flag("--quiet", o->quiet, "No progress on standard error");
  add_machine_options(*c);
  c->callback([o] { sweep(*o); });
}

}  // namespace graft::tools
