#include "training.h"

#include <algorithm>
#include <cmath>

#include "graft/data/split.h"

#include "core/choices.h"

namespace graft::tools {
namespace fs = std::filesystem;
namespace {

// Whether a path is in a folder, or the folder itself; links are followed as far as they exist.
bool is_inside(const fs::path& path, const fs::path& folder) {
  std::error_code error;
  const fs::path relative = fs::weakly_canonical(path, error).lexically_relative(fs::weakly_canonical(folder, error));
  return !error && !relative.empty() && *relative.begin() != "..";
}

// Empty if the system does not say where; then there are no files.
fs::path default_cache_folder() {
  const fs::path cache = user_cache_folder();
  return cache.empty() ? cache : cache / "graft" / "features";
}

double gib(std::uint64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

std::string place_text(const train::CacheCut& cut) {
  std::string text(name(cut.place));
  if (cut.found) return text + ", found";
  return cut.in_file && cut.place == train::Place::memory ? text + " and file" : text;
}

}  // namespace

DataOption add_data_options(CLI::App& c, DataOptions& o) {
  c.add_option("--data", o.data, "A folder with a folder of photos for each class")->required()->type_name("DIR");
  CLI::Option* validation = c.add_option("--validation", o.validation, "The same, never trained on")->type_name("DIR");
  CLI::Option* split = c.add_option("--validation-split", o.validation_split,
                                    "Share of each class of --data that is kept for validation; 0 for none")
                           ->excludes(validation);
  return {validation, split};
}

Photos read_photos(const DataOptions& options, std::uint64_t seed) {
  const data::ImageFolder all = data::read_image_folder(options.data);
  check(all.classes.size() >= 2, "{}: expected folders of at least two classes, got only '{}'", options.data.string(),
        all.classes.front());
  tell_ignored(options.data, all.ignored);
  if (!options.validation.empty()) {
    const data::ImageFolder validation = data::read_image_folder(options.validation);
    tell_ignored(options.validation, validation.ignored);
    return {all, validation};
  }
  if (options.validation_split == 0) return {all, {}};
  const data::Split split = data::stratified_split(all.labels, options.validation_split, seed);
  if (split.validation.empty())
    fmt::print(stderr,
               "{}: {} photos are too few to keep any for validation: the best epoch is that of the least loss\n",
               options.data.string(), all.size());
  return {all.select(split.train), all.select(split.validation)};
}

void check_apart(const fs::path& out, const DataOptions& options) {
  check_usage(options.validation_split >= 0 && options.validation_split < 1,
              "--validation-split: expected a share in [0, 1), got {}", options.validation_split);
  for (const fs::path& data : {options.data, options.validation}) {
    check_usage(out.empty() || data.empty() || !is_inside(out, data),
                "--out {} lies in {}, where every folder is a class; choose another", out.string(), data.string());
  }
  check_usage(options.validation.empty() ||
                  (!is_inside(options.validation, options.data) && !is_inside(options.data, options.validation)),
              "expected --data and --validation to be folders apart, got {} and {}: photos would be trained on and "
              "validated on",
              options.data.string(), options.validation.string());
}

void work_in(const fs::path& out, const std::vector<const char*>& of_use, const std::function<void()>& work) {
  std::error_code error;
  const bool fresh = !fs::exists(out, error);
  fs::create_directories(out, error);
  check(!error, "{}: cannot make the folder: {}", out.string(), error.message());
  try {
    work();
  } catch (...) {
    const bool useful =
        std::any_of(of_use.begin(), of_use.end(), [&](const char* file) { return fs::exists(out / file); });
    if (fresh && !useful) fs::remove_all(out, error);
    throw;
  }
}

void add_cache_options(CLI::App& c, CacheOptions& o, const char* group) {
  CLI::Option* none =
      c.add_flag("--no-cache", o.none, "Run frozen layers in every step, even where their values could be kept")
          ->group(group);
  c.add_option("--cache", o.folder, "The folder where values of frozen layers are kept from run to run")
      ->type_name("DIR")
      ->excludes(none)
      ->group(group);
  c.add_option("--cache-limit", o.limit, "GiB that the folder may take; files longest unused are removed")
      ->check(not_negative())
      ->excludes(none)
      ->group(group);
  c.add_option("--cache-memory", o.memory, "GiB of such values that are held in memory; more are read from a file")
      ->check(not_negative())
      ->excludes(none)
      ->group(group);
}

void apply(const CacheOptions& from, train::TrainOptions& to) {
  constexpr double kMost = 1 << 30;  // GiB that a count of bytes surely holds
  to.cache_features = !from.none;
  to.cache_folder = from.folder.empty() ? default_cache_folder() : from.folder;
  to.cache_file_bytes = static_cast<std::uint64_t>(std::min(from.limit, kMost) * (1 << 30));
  to.cache_bytes = static_cast<std::size_t>(std::min(from.memory, kMost) * (1 << 30));
}

nn::Network backbone_of(const nn::Network& network, const std::string& cut) {
  const std::string at = !cut.empty() ? cut : !network.features.empty() ? network.features : network.output().name;
  nn::Network backbone = network.cut(at);
  backbone.features = at;
  return backbone;
}

void print_cache_plan(const train::CachePlan& plan, bool json) {
  if (json) {
    Json cuts = Json::array();
    for (const train::CacheCut& cut : plan.cuts) {
      cuts.push_back({{"border", cut.part.border},
                      {"layers", cut.part.nodes.size()},
                      {"bytes_an_example", cut.part.bytes},
                      {"bytes", cut.bytes},
                      {"flops_once", cut.part.operations},
                      {"flops_every_step", cut.part.repeated},
                      {"place", name(cut.place)},
                      {"in_file", cut.in_file},
                      {"found", cut.found},
                      {"seconds", cut.seconds}});
    }
    return print_json(Json{{"line", plan.line},
                           {"chosen", plan.chosen < 0 ? Json() : Json(plan.chosen)},
                           {"plain_seconds", plan.plain_seconds},
                           {"cuts", cuts}});
  }
  if (!plan.cuts.empty()) {
    say("  {:<36} {:>6} {:>11} {:>10} {:>10} {:>9}  {:<15} {:>9}\n", "kept values of", "layers", "KiB a photo",
        "GFLOP once", "every step", "GiB", "place", "seconds");
    say("  {:<36} {:>6} {:>11} {:>10} {:>10.3f} {:>9}  {:<15} {:>9.3g}\n", "nothing", 0, "-", "-",
        1e-9 * (plan.cuts.back().part.operations), "-", "-", plan.plain_seconds);
  }
  for (const train::CacheCut& cut : plan.cuts) {
    say("{} {:<36} {:>6} {:>11.1f} {:>10.3f} {:>10.3f} {:>9.3f}  {:<15} {:>9.3g}\n", &cut == plan.cut() ? "*" : " ",
        fmt::format("{}", fmt::join(cut.part.border, ", ")), cut.part.nodes.size(),
        static_cast<double>(cut.part.bytes) / 1024, 1e-9 * cut.part.operations, 1e-9 * cut.part.repeated,
        gib(cut.bytes), place_text(cut), cut.seconds);
  }
  say("{}\n", plan.line);
}

}  // namespace graft::tools
