#include "train/feature_jobs.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <set>

#include <nlohmann/json.hpp>

#include "graft/core/version.h"
#include "graft/io/file.h"

#include "core/format.h"
#include "core/parallel.h"
#include "nn/batched.h"
#include "nn/preprocessing_json.h"
#include "train/border.h"
#include "train/cost_model.h"
#include "train/hash.h"
#include "train/options.h"
#include "train/prepare.h"

namespace graft::train {
namespace {

using nlohmann::json;

std::vector<std::string> content_hashes(const std::vector<std::filesystem::path>& files) {
  std::vector<std::string> hashes(files.size());
  parallel_for(static_cast<Index>(files.size()), [&](Index i) {
    const auto at = static_cast<std::size_t>(i);
    const io::InputFile file(files[at]);
    hashes[at] = hash_of(file.read(0, file.size()));
  });
  return hashes;
}

std::string hash_of_all(const std::vector<std::string>& hashes) {
  const std::string all = fmt::format("{}", fmt::join(hashes, ""));
  return hash_of(std::as_bytes(std::span(all)));
}

std::vector<Index> first_rows(Index count) {
  std::vector<Index> rows(static_cast<std::size_t>(count));
  std::iota(rows.begin(), rows.end(), Index{0});
  return rows;
}

data::ImageFolder joined(const data::ImageFolder& a, const data::ImageFolder& b) {
  data::ImageFolder all = a;
  all.files.insert(all.files.end(), b.files.begin(), b.files.end());
  all.labels.insert(all.labels.end(), b.labels.begin(), b.labels.end());
  return all;
}

// Photos as they are, and the row of each: in the order of their hashes and no content twice, if hashes are wanted.
std::pair<FeatureJob, std::vector<Index>> plain_job(data::ImageFolder photos, bool hashed) {
  std::vector<Index> rows = first_rows(photos.size());
  if (!hashed) {
    auto shared = std::make_shared<const data::ImageFolder>(std::move(photos));
    return {{.photos = std::move(shared), .views = 0, .photos_hash = {}}, rows};
  }
  const std::vector<std::string> hashes = content_hashes(photos.files);
  std::vector<Index> order = rows;
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    return hashes[static_cast<std::size_t>(a)] < hashes[static_cast<std::size_t>(b)];
  });
  data::ImageFolder kept{.classes = photos.classes, .files = {}, .labels = {}};
  std::string all;
  const std::string* last = nullptr;
  for (const Index photo : order) {
    const auto at = static_cast<std::size_t>(photo);
    if (last == nullptr || *last != hashes[at]) {
      kept.files.push_back(std::move(photos.files[at]));  // moved: a list of paths is the largest that is here
      kept.labels.push_back(photos.labels[at]);
      all += hashes[at];
      last = &hashes[at];
    }
    rows[at] = kept.size() - 1;
  }
  auto shared = std::make_shared<const data::ImageFolder>(std::move(kept));
  return {{.photos = std::move(shared), .views = 0, .photos_hash = hash_of(std::as_bytes(std::span(all)))}, rows};
}

}  // namespace

Index FeatureJobs::rows() const {
  Index all = 0;
  for (const FeatureJob& job : jobs) all += job.rows();
  return all;
}

FeatureJobs feature_jobs(const data::ImageFolder& train, const data::ImageFolder& validation,
                         const TrainOptions& options) {
  FeatureJobs result{.passes = static_cast<double>(options.epochs)};
  if (!options.cache_features) return result;
  const bool random = options.augmentation.any(), hashed = !options.cache_folder.empty();
  if (random && options.views > 0) {
    result.train = {0, first_rows(train.size())};
    result.jobs.push_back({std::make_shared<const data::ImageFolder>(train), std::min(options.views, options.epochs),
                           hashed ? hash_of_all(content_hashes(train.files)) : std::string()});
  }
  data::ImageFolder plain = random ? validation : joined(train, validation);
  if (plain.size() == 0) return result;
  auto [job, rows] = plain_job(std::move(plain), hashed);
  const int number = static_cast<int>(result.jobs.size());
  result.jobs.push_back(std::move(job));
  const auto middle = rows.begin() + (random ? 0 : train.size());
  if (!random) result.train = {number, {rows.begin(), middle}};
  if (validation.size() > 0) result.validation = {number, {middle, rows.end()}};
  return result;
}

FeatureLayouts::FeatureLayouts(nn::Network& network, const TrainOptions& options)
    : network_(network), options_(options), hashes_(frozen_hashes(network)) {
  json layers = layers_json(network);
  for (const auto& node : layers.items()) {
    node.value().erase("trainable");
    node.value().erase("statistics");
    nodes_[node.key()] = node.value().dump();
  }
  const nn::Program program = network.lower(nn::batched(network.input_shape(), 1),
                                            {.training = true, .dtype = options.precision, .outputs = {}, .given = {}});
  for (const nn::Program::Output& node : program.nodes) specs_[node.node] = program[node.value].spec;
}

FeatureLayout FeatureLayouts::operator()(const FrozenPart& part, const FeatureJob& job) const {
  const Context& context = Context::current();
  json nodes = json::object(), parameters = json::object();
  const std::set<std::string> inside(part.nodes.begin(), part.nodes.end());
  for (const nn::NodeEntry& node : network_.nodes()) {
    if (!inside.contains(node.name)) continue;
    nodes[node.name] = nodes_.at(node.name);
    for (const std::string& name : network_.layers()[static_cast<std::size_t>(node.layer)].parameters)
      parameters[name] = hashes_.at(name);
  }
  json facts{{"graft", kVersion},
             {"device", network_.device().to_string()},
             {"engine", name(context.engine)},
             {"tf32", context.allow_tf32},
             {"unproved", context.allow_unproved},
             {"precision", name(options_.precision)},
             {"input", std::vector<Index>(network_.input_shape().begin(), network_.input_shape().end())},
             {"preprocessing", nn::preprocessing_json<json>(network_.preprocessing)},
             {"nodes", nodes},
             {"parameters", parameters},
             {"border", part.border},
             {"averaged", part.averaged},
             {"photos", job.photos_hash}};
  if (job.views > 0)
    facts["views"] = {
        {"count", job.views}, {"seed", options_.seed}, {"augmentation", options_.augmentation.to_string()}};
  FeatureLayout layout{
      .facts = facts.dump(-1, ' ', false, json::error_handler_t::replace), .values = {}, .rows = job.rows()};
  for (const std::string& node : part.border) {
    Spec spec = specs_.at(node);
    if (part.averaged) spec.shape = {1, spec.shape.channels()};
    layout.values.emplace_back(node, spec);
  }
  return layout;
}

namespace {

// All rows of a file in memory.
std::shared_ptr<const FeatureStore> in_memory(const FeatureStore& store, const FrozenPart& part) {
  constexpr Index kRowsAtOnce = 64;
  FeatureRows rows(part.border, store.rows());
  for (Index first = 0; first < store.rows(); first += kRowsAtOnce) {
    std::vector<Index> at = first_rows(std::min(kRowsAtOnce, store.rows() - first));
    for (Index& row : at) row += first;
    const auto read = store.read(at);
    std::vector<Tensor> values;
    for (const std::string& node : part.border) values.push_back(read.at(node));
    rows.put(at, values);
  }
  return memory_store(std::make_shared<const Features>(rows.take()), store.rows());
}

bool lies_before(const FrozenPart& part, const FrozenPart& deeper) {
  const std::set<std::string> inside(deeper.nodes.begin(), deeper.nodes.end());
  return std::all_of(part.nodes.begin(), part.nodes.end(), [&](const auto& node) { return inside.contains(node); });
}

// Computes the values of one job after the other.
class JobRunner {
 public:
  JobRunner(nn::Network& network, const CacheCut& cut, const TrainOptions& options, ProgressDisplay& display,
            const ComputedFeatures& before)
      : network_(network), cut_(cut), options_(options), display_(display) {
    if (before.stores.empty() || !lies_before(before.part, cut.part)) return;
    if (pays_to_start_from(before.part, speed_of(network.device(), options.precision))) before_ = &before;
  }

  std::shared_ptr<const FeatureStore> in_memory(const FeatureJob& job, std::size_t number) {
    FeatureRows rows(cut_.part.border, job.rows());
    compute(job, number, [&](std::span<const Index> at, std::span<const Tensor> values) { rows.put(at, values); });
    return memory_store(std::make_shared<const Features>(rows.take()), job.rows());
  }

  void into(FeatureWriter& writer, const FeatureJob& job, std::size_t number) {
    compute(job, number, [&](std::span<const Index> at, std::span<const Tensor> values) { writer.put(at, values); });
    writer.finish();
  }

 private:
  void compute(const FeatureJob& job, std::size_t number, const BorderSink& sink) {
    const auto count = [&](std::span<const Index> at, std::span<const Tensor> border) {
      std::vector<Tensor> values(border.begin(), border.end());
      if (cut_.part.averaged) std::transform(border.begin(), border.end(), values.begin(), averaged);
      sink(at, values);
      display_.frozen(static_cast<Index>(at.size()));
    };
    if (before_ != nullptr) {
      const auto all = stored_source({before_->stores.at(number), first_rows(job.rows()),
                                      std::vector<Index>(static_cast<std::size_t>(job.rows()), 0)},
                                     {.batch = options_.batch});
      return for_each_border(network_, cut_.part, *all, 0, options_.precision, count);
    }
    data::LoaderOptions loader = loader_options(network_, options_, job.views > 0);
    loader.shuffle = false;
    if (job.views <= 1) loader.cache_bytes = 0;
    const auto photos = photo_source(job.photos, loader, network_.nodes().front().name);
    for (Index view = 0; view < std::max<Index>(1, job.views); ++view) {
      for_each_border(network_, cut_.part, *photos, static_cast<std::uint64_t>(view), options_.precision,
                      [&](std::span<const Index> examples, std::span<const Tensor> values) {
                        std::vector<Index> rows(examples.begin(), examples.end());
                        for (Index& row : rows) row += view * job.photos->size();
                        count(rows, values);
                      });
    }
  }

  nn::Network& network_;
  const CacheCut& cut_;
  const TrainOptions& options_;
  ProgressDisplay& display_;
  const ComputedFeatures* before_ = nullptr;
};

// Rows that are in memory already, for a later run; that they cannot be written is no reason to stop.
void write_copy(const FeatureStore& store, const FrozenPart& part, const FeatureLayout& layout,
                const FeatureFolder& folder, ProgressDisplay& display) {
  try {
    FeatureWriter writer(folder, layout);
    for (Index row = 0; row < store.rows(); ++row) {
      const auto read = store.read({&row, 1});
      std::vector<Tensor> values;
      for (const std::string& node : part.border) values.push_back(read.at(node));
      writer.put({&row, 1}, values);
    }
    writer.finish();
  } catch (const Error& error) {
    display.say(fmt::format("{}; the values stay in memory alone", error.what()));
  }
}

// The deepest values before the chosen cut that an earlier run left.
ComputedFeatures found_before(const FeatureJobs& jobs, const CachePlan& plan, const FeatureLayouts& layouts,
                              const FeatureFolder& folder, ProgressDisplay& display) {
  for (int i = plan.chosen - 1; i >= 0; --i) {
    const CacheCut& cut = plan.cuts[static_cast<std::size_t>(i)];
    if (!cut.found) continue;
    try {
      ComputedFeatures found{.part = cut.part, .stores = {}};
      for (const FeatureJob& job : jobs.jobs) found.stores.push_back(folder.open(layouts(cut.part, job)));
      return found;
    } catch (const Error& error) {
      display.say(fmt::format("{}; it is left out", error.what()));
    }
  }
  return {};
}

}  // namespace

ComputedFeatures compute_jobs(nn::Network& network, const FeatureJobs& jobs, const CachePlan& plan,
                              const TrainOptions& options, ProgressDisplay& display, const ComputedFeatures& before) {
  const CacheCut* cut = plan.cut();
  if (cut == nullptr) return {};
  ComputedFeatures computed{.part = cut->part, .stores = {}};
  computed.stores.resize(jobs.jobs.size());
  const FeatureFolder folder(options.cache_folder);
  std::optional<FeatureLayouts> layout_of;
  if (!options.cache_folder.empty()) layout_of.emplace(network, options);
  std::vector<FeatureLayout> layouts(jobs.jobs.size());
  Index missing = 0;
  for (std::size_t i = 0; i < jobs.jobs.size(); ++i) {
    if (cut->in_file) layouts[i] = (*layout_of)(cut->part, jobs.jobs[i]);
    if (cut->in_file && folder.holds(layouts[i])) {
      try {
        const auto file = folder.open(layouts[i]);
        computed.stores[i] = cut->place == Place::memory ? in_memory(*file, cut->part) : file;
      } catch (const Error& error) {
        display.say(fmt::format("{}; the values are computed anew", error.what()));
      }
    }
    if (!computed.stores[i]) missing += jobs.jobs[i].rows();
  }
  display.start_frozen(missing);
  ComputedFeatures found;
  if (missing > 0 && before.stores.empty() && layout_of) found = found_before(jobs, plan, *layout_of, folder, display);
  JobRunner runner(network, *cut, options, display, before.stores.empty() ? found : before);
  for (std::size_t i = 0; i < jobs.jobs.size(); ++i) {
    if (computed.stores[i]) continue;
    const FeatureJob& job = jobs.jobs[i];
    if (cut->in_file) folder.make_room(layouts[i].file_bytes(), options.cache_file_bytes);
    if (cut->place == Place::memory) {
      computed.stores[i] = runner.in_memory(job, i);
      if (cut->in_file) write_copy(*computed.stores[i], cut->part, layouts[i], folder, display);
      continue;
    }
    std::optional<FeatureWriter> writer;
    try {
      writer.emplace(folder, layouts[i]);
    } catch (const Error& error) {
      computed.trouble = fmt::format("the frozen part runs in every step: {}", error.what());
      display.say(computed.trouble);
      computed.stores.clear();
      return computed;
    }
    runner.into(*writer, job, i);
    computed.stores[i] = folder.open(layouts[i]);
  }
  computed.seconds = display.end_frozen();
  return computed;
}

std::unique_ptr<Source> job_source(const FeatureJobs& jobs, const ComputedFeatures& computed, const JobRows& rows,
                                   std::vector<Index> labels, const BatchOptions& options) {
  const auto number = static_cast<std::size_t>(rows.job);
  const FeatureJob& job = jobs.jobs[number];
  return stored_source({computed.stores.at(number), rows.rows, std::move(labels), std::max<Index>(1, job.views),
                        job.views > 0 ? job.photos->size() : 0},
                       options);
}

}  // namespace graft::train
