#include <charconv>
#include <set>

#include "graft/core/context.h"
#include "graft/io/file.h"
#include "graft/io/network_file.h"
#include "graft/train/cross_validation.h"
#include "graft/train/trainer.h"

#include "nn/batched.h"
#include "nn/scores.h"
#include "training.h"

namespace graft::tools {
namespace {

namespace fs = std::filesystem;

struct Options {
  fs::path weights, out;
  DataOptions data;
  CacheOptions cache;
  std::vector<std::string> freeze, unfreeze, rates, decays;
  int train_last = 0;
  std::string batch_norm = "moving", cut, head = "none", optimizer = "adam", schedule = "constant", augment,
              precision = "f32";
  double dropout = 0;
  int folds = 0, fold_seeds = 5;
  bool keep_head = false, random_weights = false, explain_plan = false, json = false, quiet = false;
  train::TrainOptions train;
};

double number(const std::string& text, const std::string& option) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  check_usage(error == std::errc() && end == text.data() + text.size(), "{}: expected a number, got '{}'", option,
              text);
  return value;
}

// `256` or `512,256`, from the features to the classes; `none` for a linear classifier.
std::vector<Index> hidden_widths(const std::string& text) {
  std::vector<Index> widths;
  if (text == "none") return widths;
  for (const std::string& part : split_commas({text})) {
    const double width = number(part, "--head");
    check_usage(width >= 1 && width <= 1 << 20 && width == static_cast<double>(static_cast<Index>(width)),
                "--head: expected widths of hidden layers such as 256 or 512,256, or none, got '{}'", text);
    widths.push_back(static_cast<Index>(width));
  }
  check_usage(!widths.empty(), "--head: expected widths of hidden layers or none, got '{}'", text);
  return widths;
}

std::vector<std::pair<std::string, double>> values_of(const std::vector<std::string>& texts, const std::string& option,
                                                      std::string_view form) {
  std::vector<std::pair<std::string, double>> values;
  for (const std::string& text : split_commas(texts)) {
    const auto equals = text.rfind('=');
    check_usage(equals != std::string::npos && equals > 0, "{}: expected {}, got '{}'", option, form, text);
    values.emplace_back(text.substr(0, equals), number(text.substr(equals + 1), option));
  }
  return values;
}

// Which layers before the head are trained. Nothing of the backbone unless asked for.
void choose_trained(nn::Network& backbone, const Options& options) {
  if (!options.freeze.empty()) {
    backbone.unfreeze();
    for (const std::string& pattern : split_commas(options.freeze)) backbone.freeze(pattern);
  } else {
    backbone.train_last(options.train_last);
    for (const std::string& pattern : split_commas(options.unfreeze)) backbone.unfreeze(pattern);
  }
}

// Batch-norms use their moving statistics, unless those of trained layers are asked to follow the batches.
void choose_statistics(nn::Network& network, const Options& options) {
  network.use_statistics(nn::Statistics::moving);
  if (options.batch_norm == "moving") return;
  bool found = false;
  for (const nn::LayerEntry& layer : network.layers()) {
    if (!layer.trainable || layer.layer->type() != "batch_norm") continue;
    network.use_statistics(nn::Statistics::batch, layer.name);
    found = true;
  }
  check_usage(
      found,
      "--batch-norm batch: no batch-norm of '{}' is among the layers that are trained; unfreeze some or leave it out",
      network.name);
}

nn::Network prepare_network(const Options& options, const std::vector<std::string>& classes) {
  nn::Network network = io::load_network(options.weights);
  if (options.random_weights) {
    network = nn::Network::from_json(network.to_json());
    network.to(Context::current().device);
  }
  network.seed = options.train.seed;
  nn::Network backbone = backbone_of(network, options.cut);
  if (options.keep_head) {
    check(network.nodes().size() > backbone.nodes().size(), "{}: --keep-head: the network has no head",
          options.weights.string());
    nn::check_gives_scores("finetune", network, network.lower(nn::batched(network.input_shape(), 1)));
    std::set<std::string> before;
    for (const nn::LayerEntry& layer : backbone.layers()) before.insert(layer.name);
    choose_trained(backbone, options);
    network.freeze();
    for (const nn::LayerEntry& layer : network.layers()) {
      if (!before.contains(layer.name) || backbone.layer(layer.name).trainable) network.unfreeze(layer.name);
    }
    if (network.classes.empty()) network.classes = classes;
  } else {
    choose_trained(backbone, options);
    backbone.graft({.classes = static_cast<Index>(classes.size()),
                    .hidden = hidden_widths(options.head),
                    .dropout = options.dropout,
                    .cut = backbone.features,
                    .class_names = classes});
    network = std::move(backbone);
  }
  choose_statistics(network, options);
  return network;
}

Json files_of(const data::ImageFolder& photos) {
  Json list = Json::array();
  for (std::size_t i = 0; i < photos.files.size(); ++i)
    list.push_back({fs::absolute(photos.files[i]).lexically_normal().string(), photos.labels[i]});
  return list;
}

// What a report shows beside the numbers: how the run was started, and which photos it never trained on.
void describe_run(const Options& options, const nn::Network& network, const Photos& photos) {
  std::vector<std::string> trained;
  for (const nn::LayerEntry& layer : network.layers()) {
    if (layer.trainable && !layer.parameters.empty()) trained.push_back(layer.name);
  }
  const Json json{{"weights", options.weights.string()}, {"random_weights", options.random_weights},
                  {"data", options.data.data.string()},  {"trained_layers", trained},
                  {"batch_norm", options.batch_norm},    {"validation", files_of(photos.validation)}};
  io::write_file_atomically(options.out / "data.json", json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

void check_options(const Options& options) {
  check_usage(options.folds > 0 || options.explain_plan || !options.out.empty(),
              "--out is required: the folder for the run's files");
  check_apart(options.out, options.data);
  if (options.keep_head) {
    check_usage(options.cut.empty() && options.head == "none" && options.dropout == 0,
                "--keep-head trains the head that is there: leave out --cut, --head and --dropout");
  }
  check_usage(options.dropout >= 0 && options.dropout < 1, "--dropout: expected a share in [0, 1), got {}",
              options.dropout);
  check_usage(options.train.views == 0 || !options.augment.empty(),
              "--views keeps versions that --augment makes: name some");
  check_usage(options.train.optimizer.momentum == 0 || options.optimizer == "sgd",
              "--momentum is an option of --optimizer sgd, not of {}", options.optimizer);
}

train::Report train(const Options& options, nn::Network& network, const Photos& photos) {
  const fs::path checkpoint = options.out / "checkpoint.safetensors";
  train::Report report;
  // Of a run that failed before it had anything to use or to continue, nothing stays.
  work_in(options.out, {"checkpoint.safetensors", "run.json"}, [&] {
    train::Trainer trainer(network, photos.train, photos.validation, options.train);
    if (options.train.resume && !fs::exists(checkpoint))
      fmt::print(stderr, "{}: there is no checkpoint to resume from: the run begins\n", options.out.string());
    if (!fs::exists(checkpoint)) describe_run(options, network, photos);  // one that is resumed was described before
    report = trainer.run();
  });
  return report;
}

void show(const Options& options, const nn::Network& network, const Photos& photos, const train::Report& report) {
  const train::EpochRecord& best = report.best();
  if (options.json) {
    const auto scores = [](const train::Scores& s) {
      return Json{{"loss", s.loss}, {"top1", s.top1}, {"top5", s.top5}};
    };
    print_json(Json{{"run", options.out.string()},
                    {"network", network.name},
                    {"classes", network.classes},
                    {"photos", {{"train", photos.train.size()}, {"validation", photos.validation.size()}}},
                    {"epochs", report.epochs.size()},
                    {"best_epoch", report.best_epoch},
                    {"train", scores(best.train)},
                    {"validation", best.validation ? scores(*best.validation) : Json()},
                    {"stopped_early", report.stopped_early},
                    {"frozen", report.frozen_hashes.size()},
                    {"seconds", report.seconds},
                    {"frozen_seconds", report.frozen_seconds}});
    return;
  }
  say("{}: best epoch {} of {}", options.out.string(), report.best_epoch, report.epochs.size());
  if (best.validation)
    say(", validation top-1 {:.4f}, loss {:.4f} on {} photos", best.validation->top1, best.validation->loss,
        photos.validation.size());
  else
    say(", training loss {:.4f}", best.train.loss);
  say(", {:.1f} s", report.seconds);
  if (report.frozen_seconds > 0) say(" of which {:.1f} s for the frozen part", report.frozen_seconds);
  say("\n{} frozen tensors are bit for bit what they were\n", report.frozen_hashes.size());
  if (!report.profile.empty()) say("{}", report.profile);
}

// Trains on all folds but one, again and again, and writes no run: how good such a classifier is, not the classifier.
void cross_validate(const Options& options) {
  const data::ImageFolder photos = data::read_image_folder(options.data.data);
  nn::Network network = prepare_network(options, photos.classes);
  train::CrossValidationOptions cross{.folds = options.folds, .seeds = {}};
  for (int i = 0; i < options.fold_seeds; ++i) {
    cross.seeds.push_back(options.train.seed + static_cast<std::uint64_t>(i));
  }
  const train::CrossValidation result = train::cross_validate(network, photos, options.train, cross);
  if (options.json) {
    print_json(Json{{"network", network.name},
                    {"photos", photos.size()},
                    {"folds", options.folds},
                    {"accuracies", result.accuracies},
                    {"mean", result.mean},
                    {"deviation", result.deviation}});
    return;
  }
  say("{} photos, {} folds, split anew {} times: accuracy {:.4f} (deviation {:.4f})\n", photos.size(), options.folds,
      options.fold_seeds, result.mean, result.deviation);
}

void finetune(Options options) {
  check_options(options);
  options.train.optimizer.algorithm = optim::algorithm_from_name(options.optimizer);
  options.train.schedule.kind = optim::schedule_from_name(options.schedule);
  options.train.learning_rate_of = values_of(options.rates, "--lr-of", "PATTERN=RATE");
  options.train.weight_decay_of = values_of(options.decays, "--decay-of", "PATTERN=DECAY");
  options.train.augmentation = data::Augmentation::parse(options.augment);
  options.train.precision = dtype_from_name(options.precision);
  apply(options.cache, options.train);
  options.train.out = options.out;
  options.train.progress = options.quiet ? train::Progress::none : train::Progress::automatic;
  if (options.folds > 0) return cross_validate(options);
  const Photos photos = read_photos(options.data, options.train.seed);
  nn::Network network = prepare_network(options, photos.train.classes);
  if (options.explain_plan)
    return print_cache_plan(train::plan_caching(network, photos.train, photos.validation, options.train), options.json);
  const train::Report report = train(options, network, photos);
  show(options, network, photos, report);
}

void add_run_options(CLI::App& c, Options& o) {
  c.add_option("--weights", o.weights, "The network to start from")->required()->type_name("FILE");
  const auto [validation, split] = tools::add_data_options(c, o.data);
  CLI::Option* out =
      c.add_option("--out", o.out, "The folder for best.safetensors, last.safetensors, run.json and log.jsonl")
          ->type_name("RUN");
  CLI::Option* resume =
      c.add_flag("--resume", o.train.resume, "Continue the run in --out; the other options as they were");
  CLI::Option* every = c.add_option("--checkpoint-every", o.train.checkpoint_seconds,
                                    "Seconds, at least, between the checkpoints that --resume continues from")
                           ->check(not_negative());
  CLI::Option* folds = c.add_option("--folds", o.folds, "Measure by cross-validation with so many parts; writes no run")
                           ->check(CLI::Range(2, 1000))
                           ->excludes(validation)
                           ->excludes(split)
                           ->excludes(out)
                           ->excludes(resume)
                           ->excludes(every);
  c.add_option("--fold-seeds", o.fold_seeds, "How often the photos are cut into parts anew")
      ->check(CLI::Range(1, 1000))
      ->needs(folds);
}

void add_network_options(CLI::App& c, Options& o) {
  const auto list = [](CLI::Option* option) {
    return option->allow_extra_args(false)
        ->default_str("")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->group("Network");
  };
  CLI::Option* freeze =
      list(c.add_option("--freeze", o.freeze, "Train all layers but those that match")->type_name("PATTERN"));
  CLI::Option* unfreeze =
      list(c.add_option("--unfreeze", o.unfreeze, "Train the head and the layers that match, e.g. 'block5_*'")
               ->type_name("PATTERN"));
  CLI::Option* last =
      c.add_option("--train-last", o.train_last, "Train the head and the last N layers with weights before it")
          ->check(positive())
          ->group("Network");
  freeze->excludes(unfreeze)->excludes(last);
  unfreeze->excludes(last);
  c.add_option("--batch-norm", o.batch_norm,
               "Statistics of trained batch-norms: moving stay as they are, batch follow the photos")
      ->check(CLI::IsMember({"moving", "batch"}))
      ->group("Network");
  c.add_option("--cut", o.cut, "The layer that the new head is put on; the network's features if not given")
      ->type_name("LAYER")
      ->group("Network");
  c.add_option("--head", o.head,
               "Widths of the new head's hidden layers, e.g. 256 or 512,256; none for a linear classifier")
      ->group("Network");
  c.add_option("--dropout", o.dropout, "In the new head")->group("Network");
  c.add_flag("--keep-head", o.keep_head, "Train the head that the network has further")->group("Network");
  c.add_flag("--random-weights", o.random_weights,
             "Throw the weights away and start from random ones: shows what they are worth")
      ->group("Network");
}

void add_training_options(CLI::App& c, Options& o) {
  constexpr const char* kGroup = "Training";
  train::TrainOptions& t = o.train;
  c.add_option("--epochs", t.epochs, "Times that every photo is seen")->check(positive())->group(kGroup);
  c.add_option("--batch", t.batch, "Photos a step")->check(positive())->group(kGroup);
  c.add_option("--optimizer", o.optimizer, "Update rule")
      ->check(CLI::IsMember({"sgd", "adam", "adamw"}))
      ->group(kGroup);
  c.add_option("--lr", t.optimizer.learning_rate, "Learning rate")->check(positive())->group(kGroup);
  const auto list = [](CLI::Option* option) {
    option->allow_extra_args(false)
        ->default_str("")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->group(kGroup);
  };
  list(c.add_option("--lr-of", o.rates,
                    "Another rate for some layers, e.g. 'conv5_*=1e-5'; the first that matches counts")
           ->type_name("PATTERN=RATE"));
  c.add_option("--momentum", t.optimizer.momentum, "Of sgd")->check(CLI::Range(0.0, 1.0))->group(kGroup);
  c.add_option("--weight-decay", t.optimizer.weight_decay, "Of all trained weights")
      ->check(not_negative())
      ->group(kGroup);
  list(c.add_option("--decay-of", o.decays,
                    "Another decay for some layers, e.g. '*_bn=0'; the first that matches counts")
           ->type_name("PATTERN=DECAY"));
  c.add_option("--schedule", o.schedule, "How the rate falls")
      ->check(CLI::IsMember({"constant", "step", "cosine"}))
      ->group(kGroup);
  c.add_option("--warmup", t.schedule.warmup, "Steps in which the rate rises")->check(not_negative())->group(kGroup);
  c.add_option("--label-smoothing", t.label_smoothing, "Share of each label that goes to all classes")
      ->check(CLI::Range(0.0, 0.99))
      ->group(kGroup);
  c.add_option("--patience", t.patience, "Stop after so many epochs without a better one; 0 never does")
      ->check(not_negative())
      ->group(kGroup);
  c.add_option("--augment", o.augment, "Random changes: flip,rotate=15,zoom=0.1,brightness=0.2,contrast=0.2")
      ->type_name("LIST")
      ->group(kGroup);
  c.add_option("--precision", o.precision, "Of activations")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->group(kGroup);
  c.add_option_function<double>(
       "--memory-limit", [&t](double mib) { t.memory_limit = static_cast<std::size_t>(mib * (1 << 20)); },
       "MiB that the values of a step may take: above it some are computed again instead of kept")
      ->check(positive())
      ->type_name("MIB")
      ->group(kGroup);
  c.add_option("--seed", t.seed, "Of the head, the split, the order, augmentation and dropout")
      ->check(not_negative())
      ->group(kGroup);
  c.add_option("--workers", t.workers, "Threads that read photos; by default as many as --threads, at most 4")
      ->check(thread_count())
      ->group(kGroup);
  c.add_option(
       "--views", t.views,
       "With --augment: so many versions of each photo in turn, whose frozen part is computed once where that pays; 0: "
       "new ones in each epoch")
      ->check(not_negative())
      ->group(kGroup);
  add_cache_options(c, o.cache, kGroup);
  c.add_flag("--profile", t.profile, "Print where the time went")->excludes(c.get_option("--folds"))->group(kGroup);
}

}  // namespace

void add_finetune(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* c = add_command(app, "finetune", "Graft a new head onto a network and train it on a folder of photos",
                            "graft finetune --weights efficientnet.safetensors --data flowers --head 256 --dropout 0.3 "
                            "--epochs 20 --out flowers-run");
  add_run_options(*c, *o);
  add_network_options(*c, *o);
  add_training_options(*c, *o);
  c->add_flag("--explain-plan", o->explain_plan,
              "Print where the frozen part could be cut, what each way costs and which is taken, and train nothing")
      ->excludes(c->get_option("--folds"));
  c->add_flag("--json", o->json, "Print the result as JSON");
  c->add_flag("--quiet", o->quiet, "No progress on standard error");
  add_machine_options(*c);
  c->callback([o] { finetune(*o); });
}

}  // namespace graft::tools
