#include "graft/train/cache_plan.h"

#include "core/format.h"
#include "train/cost_model.h"
#include "train/feature_jobs.h"

namespace graft::train {
namespace {

std::string size_text(std::size_t bytes) {
  const auto number = static_cast<double>(bytes);
  return bytes < (std::size_t{1} << 20)   ? fmt::format("{:.1f} KiB", number / 1024)
         : bytes < (std::size_t{1} << 30) ? fmt::format("{:.1f} MiB", number / (1 << 20))
                                          : fmt::format("{:.1f} GiB", number / (1 << 30));
}

std::string seconds_text(double seconds) {
  return seconds < 100 ? fmt::format("{:.2g} s", seconds) : fmt::format("{:.0f} s", seconds);
}

// What photos cost before the network sees them, once and in each further pass.
double photo_seconds(const FeatureJob& job, const Speed& speed, double passes) {
  return static_cast<double>(job.photos->size()) *
         (speed.photo_first + passes * (job.views > 0 ? speed.photo_augmented : speed.photo_again));
}

class Planner {
 public:
  Planner(nn::Network& network, const FeatureJobs& jobs, const TrainOptions& options)
      : jobs_(jobs),
        options_(options),
        speed_(speed_of(network.device(), options.precision)),
        folder_(options.cache_folder) {
    if (options.cache_folder.empty()) return;
    layouts_.emplace(network, options);
    allowance_ = folder_.allowance(options.cache_file_bytes);
  }

  std::uint64_t allowance() const { return allowance_; }

  double plain_seconds(const FrozenPart& whole) const {
    double seconds = 0;
    for (const FeatureJob& job : jobs_.jobs) {
      seconds += photo_seconds(job, speed_, jobs_.passes) +
                 jobs_.passes * static_cast<double>(job.photos->size()) * whole.operations / speed_.operations;
    }
    return seconds;
  }

  /// Cuts come in order of computation: one that is found may be where a later one starts.
  CacheCut cost_of(const FrozenPart& part) {
    CacheCut cut{.part = part, .bytes = part.bytes * static_cast<std::size_t>(jobs_.rows())};
    const auto bytes = static_cast<double>(cut.bytes);
    cut.found = layouts_.has_value();
    std::uint64_t new_bytes = 0;
    double computing = 0;
    for (const FeatureJob& job : jobs_.jobs) {
      if (layouts_) {
        const FeatureLayout layout = (*layouts_)(part, job);
        if (folder_.holds(layout)) continue;
        new_bytes += layout.file_bytes();
      }
      cut.found = false;
      computing += start_
                       ? static_cast<double>(job.rows()) * (static_cast<double>(start_->bytes) / speed_.file_read +
                                                            (part.operations - start_->operations) / speed_.operations)
                       : photo_seconds(job, speed_, static_cast<double>(std::max<Index>(1, job.views))) +
                             static_cast<double>(job.rows()) * part.operations / speed_.operations;
    }
    const double writing = static_cast<double>(new_bytes) / speed_.file_write;
    const bool fits_memory = cut.bytes <= options_.cache_bytes;
    const bool fits_file = layouts_ && new_bytes <= allowance_;
    if (fits_memory || fits_file) cut.place = fits_memory ? Place::memory : Place::file;
    cut.in_file = fits_file && (!fits_memory || writing <= computing);
    cut.once_seconds = computing + (cut.in_file ? writing : 0) + (cut.found ? bytes / speed_.file_read : 0);
    Index examples = 0;
    for (const FeatureJob& job : jobs_.jobs) examples += job.photos->size();
    cut.epoch_seconds =
        static_cast<double>(examples) *
        (static_cast<double>(part.bytes) / (cut.place == Place::file ? speed_.file_read : speed_.memory_read) +
         part.repeated / speed_.operations);
    cut.seconds = cut.once_seconds + jobs_.passes * cut.epoch_seconds;
    if (cut.found && pays_to_start_from(part, speed_)) start_ = part;
    return cut;
  }

 private:
  const FeatureJobs& jobs_;
  const TrainOptions& options_;
  Speed speed_;
  FeatureFolder folder_;
  std::optional<FeatureLayouts> layouts_;
  std::uint64_t allowance_ = 0;
  std::optional<FrozenPart> start_;
};

std::string photos_text(const FeatureJobs& jobs) {
  const FeatureJob& first = jobs.jobs.front();
  if (first.views == 0) {
    return fmt::format("{}{} photos", jobs.train.job < 0 ? "the " : "",
                       jobs.train.rows.size() + jobs.validation.rows.size());
  }
  const std::string views = fmt::format("{} views of each of {} photos", first.views, first.photos->size());
  return jobs.jobs.size() == 1 ? views : fmt::format("{} and for {} others", views, jobs.validation.rows.size());
}

std::string part_text(const nn::Network& network, const FrozenPart& part) {
  return fmt::format("the frozen part ({} of {} layers, up to '{}')", part.nodes.size(), network.nodes().size() - 1,
                     fmt::join(part.border, "', '"));
}

std::string line_of(const nn::Network& network, const FeatureJobs& jobs, const CachePlan& plan) {
  const CacheCut& cut = *plan.cut();
  std::string line = part_text(network, cut.part);
  const std::string where = cut.place == Place::memory ? "memory" : "a file";
  if (cut.found)
    line += fmt::format(" was computed by an earlier run for {}: {} are read from the cache folder and kept in {}",
                        photos_text(jobs), size_text(cut.bytes), where);
  else
    line += fmt::format(" is computed once for {} and kept in {} of {}{}", photos_text(jobs), size_text(cut.bytes),
                        cut.place == Place::memory ? "memory" : "the cache folder",
                        cut.in_file && cut.place == Place::memory ? ", and in the cache folder for later runs" : "");
  line += fmt::format(": {:.2f} GFLOP a photo saved in every epoch, about {} instead of {}", cut.part.operations * 1e-9,
                      seconds_text(cut.seconds), seconds_text(plan.plain_seconds));
  if (const std::size_t rest = plan.cuts.back().part.nodes.size() - cut.part.nodes.size(); rest > 0)
    line += fmt::format("; what is frozen behind it ({} layer{}) runs in every step, which costs less than keeping it",
                        rest, rest == 1 ? "" : "s");
  if (jobs.train.job < 0)
    line += "; for training it runs in every step, since augmentation changes the training photos (--views keeps some)";
  return line;
}

}  // namespace

std::string_view name(Place place) {
  return place == Place::memory ? "memory" : place == Place::file ? "file" : "nowhere";
}

CachePlan plan_jobs(nn::Network& network, const FeatureJobs& jobs, const TrainOptions& options,
                    const std::vector<FrozenPart>& parts) {
  CachePlan plan;
  if (parts.empty()) {
    plan.line = "nothing is frozen before the first trainable layer: every step runs the whole network";
    return plan;
  }
  const std::string whole = part_text(network, parts.back());
  if (!options.cache_features) {
    plan.line = fmt::format("{} runs in every step, as asked", whole);
    return plan;
  }
  if (jobs.jobs.empty()) {
    plan.line =
        fmt::format("{} runs in every step: augmentation changes the training photos (--views keeps some)", whole);
    return plan;
  }
  Planner planner(network, jobs, options);
  plan.plain_seconds = planner.plain_seconds(parts.back());
  double best = plan.plain_seconds;
  const CacheCut* smallest = nullptr;
  for (const FrozenPart& part : parts) plan.cuts.push_back(planner.cost_of(part));
  for (std::size_t i = 0; i < plan.cuts.size(); ++i) {
    const CacheCut& cut = plan.cuts[i];
    if (smallest == nullptr || cut.bytes <= smallest->bytes) smallest = &cut;
    if (cut.place == Place::nowhere || cut.seconds > best || (cut.seconds == best && plan.chosen < 0)) continue;
    best = cut.seconds;
    plan.chosen = static_cast<int>(i);
  }
  if (plan.chosen >= 0)
    plan.line = line_of(network, jobs, plan);
  else if (smallest->place == Place::nowhere)
    plan.line = fmt::format("{} runs in every step: its values for {} would take {} of memory, allowed are {}{}", whole,
                            photos_text(jobs), size_text(smallest->bytes), size_text(options.cache_bytes),
                            options.cache_folder.empty()
                                ? ""
                                : fmt::format(", and {} in the cache folder", size_text(planner.allowance())));
  else
    plan.line = fmt::format("{} runs in every step: keeping its values would not pay in {} epoch{}", whole,
                            options.epochs, options.epochs == 1 ? "" : "s");
  return plan;
}

CachePlan plan_caching(nn::Network& network, const data::ImageFolder& train, const data::ImageFolder& validation,
                       const TrainOptions& options) {
  return plan_jobs(network, feature_jobs(train, validation, options), options, frozen_cuts(network, options.precision));
}

}  // namespace graft::train
