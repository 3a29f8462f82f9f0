#include <csignal>

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "graft/train/cache_plan.h"

#include "support/expect.h"
#include "train/samples.h"

namespace graft::train {
namespace {

namespace fs = std::filesystem;
using test::bytes_of;
using test::quick_options;
using testing::ElementsAre;
using testing::HasSubstr;

// A block of two branches, each narrow first and wide then, like Inception's: what its narrow nodes make takes the
// fewest bytes, and the wide ones cost little.
nn::Network branched() {
  nn::Builder b({.height = 12, .width = 12});
  const auto stem = b.add("stem", nn::Conv2d({.out = 8, .kernel = 3, .stride = 2}), b.input());
  const auto a = b.add("a", nn::Conv2d({.out = 2, .kernel = 1, .activation = Activation::relu}), stem);
  const auto c = b.add("b", nn::Conv2d({.out = 2, .kernel = 3, .padding = kSame}), stem);
  const auto wide_a = b.add("wide_a", nn::Conv2d({.out = 32, .kernel = 1}), a);
  const auto wide_b = b.add("wide_b", nn::Conv2d({.out = 32, .kernel = 1}), c);
  const auto mixed = b.add("mixed", nn::Concat(), {wide_a, wide_b});
  const auto tail = b.add("tail", nn::Conv2d({.out = 6, .kernel = 3, .activation = Activation::relu}), mixed);
  nn::Network network = b.build(b.add("head", nn::Linear({.out = 2}), b.add("pool", nn::GlobalAveragePool(), tail)));
  network.preprocessing = tf_preprocessing(12);
  network.materialize();
  network.freeze();
  network.unfreeze("tail");
  network.unfreeze("head");
  return network;
}

nn::Network head_alone() {
  nn::Network network = test::small_network();
  network.freeze();
  network.unfreeze("head");
  return network;
}

struct Photos {
  explicit Photos(const fs::path& folder)
      : train(test::stripe_photos(folder / "train", 30, 1)),
        validation(test::stripe_photos(folder / "validation", 10, 2)) {}
  data::ImageFolder train, validation;
};

struct Outcome {
  Report report;
  std::map<std::string, std::string> bytes;
  std::string said;
};

Outcome run_of(nn::Network network, const Photos& photos, const TrainOptions& options) {
  ContextScope scope;
  if (scope->engine == Engine::automatic) scope->engine = Engine::reference;  // whatever the composition of a batch
  testing::internal::CaptureStderr();
  Outcome run{Trainer(network, photos.train, photos.validation, options).run(), {}, {}};
  run.said = testing::internal::GetCapturedStderr();
  run.bytes = bytes_of(network);
  return run;
}

TrainOptions with_folder(const fs::path& folder) {
  TrainOptions options = quick_options();
  options.progress = Progress::lines;
  options.cache_folder = folder;
  return options;
}

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  return files;
}

std::string content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

TEST(FrozenCuts, AreEveryBeginningOfTheFrozenPart) {
  nn::Network network = branched();
  const std::vector<FrozenPart> cuts = frozen_cuts(network);
  ASSERT_EQ(cuts.size(), 6u);
  EXPECT_THAT(cuts[0].border, ElementsAre("stem"));
  EXPECT_THAT(cuts[1].border, ElementsAre("stem", "a"));
  EXPECT_THAT(cuts[2].border, ElementsAre("a", "b"));
  EXPECT_THAT(cuts[3].border, ElementsAre("b", "wide_a"));
  EXPECT_THAT(cuts[5].border, ElementsAre("mixed"));
  EXPECT_EQ(cuts[2].bytes, 4 * cuts[0].bytes / 8);
  EXPECT_EQ(cuts[5].repeated, 0);
  for (const FrozenPart& cut : cuts) EXPECT_EQ(cut.operations + cut.repeated, cuts[5].operations);
  network.unfreeze();
  EXPECT_TRUE(frozen_cuts(network).empty());
}

// The plain run against every place that values may be kept in, and the file that an earlier run left.
TEST(Caching, GivesTheSameNetworkBitForBitFromAnyPlace) {
  struct Row {
    std::string what;
    std::function<nn::Network()> network;
    std::string border;
  };
  const std::vector<Row> rows{{"head alone", head_alone, "up to 'dropout'"},
                              {"two tensors in the middle of a block", branched, "up to 'a', 'b'"}};
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    const test::TemporaryFolder folder("cache_places");
    const Photos photos(folder.path());
    TrainOptions plain = quick_options();
    plain.cache_features = false;
    const Outcome expected = run_of(row.network(), photos, plain);
    const auto same = [&](const TrainOptions& options, const std::string& line) {
      const Outcome got = run_of(row.network(), photos, options);
      EXPECT_THAT(got.report.features, AllOf(HasSubstr(row.border), HasSubstr(line)));
      EXPECT_EQ(got.bytes, expected.bytes) << line;
      EXPECT_EQ(got.report.confusion, expected.report.confusion);
      for (std::size_t i = 0; i < got.report.epochs.size(); ++i)
        EXPECT_EQ(got.report.epochs[i].train.loss, expected.report.epochs[i].train.loss);
    };
    same(quick_options(), "of memory: ");
    TrainOptions options = with_folder(folder.path() / "cache");
    same(options, "of memory, and in the cache folder for later runs");
    same(options, "was computed by an earlier run for 40 photos");
    options.cache_bytes = 0;
    same(options, "was computed by an earlier run for 40 photos");
    fs::remove_all(options.cache_folder);
    same(options, "of the cache folder: ");
    EXPECT_EQ(files_in(options.cache_folder).size(), 1u);
  }
}

TEST(Caching, AFileIsFoundAgainWhereItsValuesAreTheSame) {
  struct Row {
    std::string what;
    std::function<void(nn::Network&, const fs::path&, TrainOptions&)> change;
    bool found;
  };
  const auto append = [](const fs::path& file) { std::ofstream(file, std::ios::app) << "x"; };
  const std::vector<Row> rows{
      {"nothing", [](nn::Network&, const fs::path&, TrainOptions&) {}, true},
      {"rate, seed, epochs",
       [](nn::Network&, const fs::path&, TrainOptions& o) {
         o.optimizer.learning_rate = 1;
         o.seed = 9;
         o.epochs = 7;
       },
       true},
      {"other head", [](nn::Network& n, const fs::path&, TrainOptions&) { n.parameter("head/weight").value.fill(0.5); },
       true},
      {"photos elsewhere",
       [](nn::Network&, const fs::path& f, TrainOptions&) {
         fs::rename(f / "train", f / "moved");
         fs::rename(f / "validation", f / "train");
         fs::rename(f / "moved", f / "validation");
       },
       true},
      {"a frozen weight",
       [](nn::Network& n, const fs::path&, TrainOptions&) {
         n.parameter("conv1/weight").value.mutable_data<float>()[3] += 1e-3f;
       },
       false},
      {"a frozen statistic",
       [](nn::Network& n, const fs::path&, TrainOptions&) { n.parameter("bn1/moving_mean").value.fill(0.25); }, false},
      {"the preprocessing", [](nn::Network& n, const fs::path&, TrainOptions&) { n.preprocessing.mean[1] += 1; },
       false},
      {"how photos are resized",
       [](nn::Network& n, const fs::path&, TrainOptions&) { n.preprocessing.fit = Fit::crop; }, false},
      {"a byte of a photo", [&](nn::Network&, const fs::path& f, TrainOptions&) { append(f / "train/rows/001.png"); },
       false},
      {"a photo less", [](nn::Network&, const fs::path& f, TrainOptions&) { fs::remove(f / "train/rows/003.png"); },
       false},
      {"the precision", [](nn::Network&, const fs::path&, TrainOptions& o) { o.precision = DType::bf16; }, false},
      {"the engine", [](nn::Network&, const fs::path&, TrainOptions&) { Context::current().engine = Engine::native; },
       false},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    const test::TemporaryFolder folder("cache_found");
    Photos photos(folder.path());
    TrainOptions options = with_folder(folder.path() / "cache");
    run_of(head_alone(), photos, options);
    ContextScope scope;
    nn::Network network = head_alone();
    row.change(network, folder.path(), options);
    photos.train = data::read_image_folder(folder.path() / "train");
    photos.validation = data::read_image_folder(folder.path() / "validation");
    const Outcome run = run_of(network, photos, options);
    EXPECT_THAT(run.report.features, HasSubstr(row.found ? "was computed by an earlier run" : "is computed once"));
    EXPECT_EQ(run.report.frozen_seconds == 0, row.found);
    EXPECT_EQ(files_in(options.cache_folder).size(), row.found ? 1u : 2u);
  }
}

// The file of an earlier run that trained more layers is a place to start from: the photos are not read again.
TEST(Caching, GoesOnFromAShallowerFile) {
  ContextScope scope;
  scope->engine = Engine::reference;
  const test::TemporaryFolder folder("cache_deeper");
  const Photos photos(folder.path());
  nn::Network shallow = head_alone();
  shallow.unfreeze("conv2");
  TrainOptions options = with_folder(folder.path() / "cache");
  run_of(shallow, photos, options);
  const Outcome expected = run_of(head_alone(), photos, quick_options());
  nn::Network network = head_alone();
  const CachePlan plan = plan_caching(network, photos.train, photos.validation, options);
  const auto found = [](const CacheCut& cut) { return cut.found; };
  EXPECT_EQ(std::count_if(plan.cuts.begin(), plan.cuts.end(), found), 1);
  ASSERT_NE(plan.cut(), nullptr);
  EXPECT_FALSE(plan.cut()->found);
  EXPECT_LT(plan.cut()->once_seconds, 40 * 1e-3) << "less than reading a photo takes";
  const Outcome deeper = run_of(head_alone(), photos, options);
  EXPECT_EQ(deeper.bytes, expected.bytes);
  EXPECT_EQ(files_in(options.cache_folder).size(), 2u);

  fs::remove(files_in(options.cache_folder)[0]);
  fs::remove(files_in(options.cache_folder)[0]);
  run_of(shallow, photos, options);
  fs::resize_file(files_in(options.cache_folder)[0], 5000);
  const Outcome damaged = run_of(head_alone(), photos, options);
  EXPECT_THAT(damaged.said, HasSubstr("it is left out\n"));
  EXPECT_EQ(damaged.bytes, expected.bytes);
}

TEST(Caching, ADamagedFileIsComputedAnewAndSaid) {
  const test::TemporaryFolder folder("cache_damage");
  const Photos photos(folder.path());
  for (const std::size_t memory : {std::size_t{1} << 20, std::size_t{0}}) {
    TrainOptions options = with_folder(folder.path() / "cache");
    options.cache_bytes = memory;
    const Outcome expected = run_of(head_alone(), photos, options);
    ASSERT_EQ(files_in(options.cache_folder).size(), 1u);
    const fs::path file = files_in(options.cache_folder).front();
    const std::string whole = content(file);
    const std::vector<std::pair<std::string, std::function<void()>>> damages{
        {"truncated", [&] { fs::resize_file(file, whole.size() / 2); }},
        {"a bit flipped",
         [&] {
           std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
           stream.seekp(static_cast<std::streamoff>(whole.size()) - 2);
           stream.put(static_cast<char>(whole[whole.size() - 2] ^ 1));
         }},
        {"something else", [&] { std::ofstream(file) << "not features"; }}};
    for (const auto& [what, damage] : damages) {
      SCOPED_TRACE(what);
      damage();
      const Outcome run = run_of(head_alone(), photos, options);
      EXPECT_THAT(run.said, HasSubstr("the values are computed anew\n"));
      EXPECT_EQ(run.bytes, expected.bytes);
      EXPECT_TRUE(content(file) == whole);
    }
    fs::remove_all(options.cache_folder);
  }
}

TEST(Caching, GoesOnWithoutAFileThatCannotBeWritten) {
  const test::TemporaryFolder folder("cache_full");
  const Photos photos(folder.path());
  const Outcome expected = run_of(head_alone(), photos, quick_options());
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{1024, before.rlim_max};
  const auto limited = [&](const TrainOptions& options) {
    setrlimit(RLIMIT_FSIZE, &small);
    Outcome run = run_of(head_alone(), photos, options);
    setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_EQ(run.bytes, expected.bytes);
    EXPECT_TRUE(files_in(options.cache_folder).empty());
    return run;
  };
  TrainOptions options = with_folder(folder.path() / "cache");
  EXPECT_THAT(limited(options).said,
              HasSubstr("bytes cannot be reserved: File too large; the values stay in memory alone\n"));
  options.cache_bytes = 0;
  EXPECT_THAT(limited(options).report.features, HasSubstr("the frozen part runs in every step: [cache] "));
  options.cache_folder = folder.path() / "train/rows/001.png/cache";  // no folder can be made there
  options.cache_bytes = 1 << 20;
  const Outcome run = run_of(head_alone(), photos, options);
  EXPECT_THAT(run.said, HasSubstr("cannot make the folder"));
  EXPECT_EQ(run.bytes, expected.bytes);
}

TEST(Caching, BoundsDecideWhereValuesGo) {
  struct Row {
    std::size_t memory;
    std::uint64_t file;
    Index epochs;
    std::string line;
  };
  const test::TemporaryFolder folder("cache_bounds");
  const Photos photos(folder.path());
  for (const Row& row : {Row{1 << 20, 1 << 20, 4, "kept in 1.2 KiB of memory, and in the cache folder"},
                         Row{1 << 20, 100, 4, "kept in 1.2 KiB of memory: "},
                         Row{100, 1 << 20, 4, "kept in 1.2 KiB of the cache folder: "},
                         Row{100, 100, 4, "1.2 KiB of memory, allowed are 0.1 KiB, and 0.1 KiB in the cache folder"},
                         Row{1 << 20, 1 << 20, 1, "keeping its values would not pay in 1 epoch"}}) {
    TrainOptions options = with_folder(folder.path() / "cache");
    options.cache_bytes = row.memory;
    options.cache_file_bytes = row.file;
    options.epochs = row.epochs;
    nn::Network network = head_alone();
    EXPECT_THAT(plan_caching(network, photos.train, photos.validation, options).line, HasSubstr(row.line));
  }
}

// The first epochs are those of the run that draws anew each time, since they see the same versions.
TEST(Views, AreWhatTheFirstEpochsOfAPlainRunDraw) {
  const test::TemporaryFolder folder("views");
  const Photos photos(folder.path());
  TrainOptions plain = quick_options();
  plain.seed = 3;
  plain.epochs = 6;
  plain.augmentation = data::Augmentation::parse("flip,rotate=20,brightness=0.2");
  const Outcome expected = run_of(head_alone(), photos, plain);
  for (const bool in_file : {false, true}) {
    TrainOptions options = plain;
    options.views = 2;
    if (in_file) options.cache_folder = folder.path() / "cache";
    if (in_file) options.cache_bytes = 0;
    for (int start = 0; start < 2; ++start) {
      const Outcome run = run_of(head_alone(), photos, options);
      EXPECT_THAT(run.report.features, HasSubstr("2 views of each of 30 photos and for 10 others"));
      EXPECT_EQ(run.report.features.find("earlier run") != std::string::npos, in_file && start == 1);
      for (std::size_t i = 0; i < 6; ++i) {
        const bool same = run.report.epochs[i].train.loss == expected.report.epochs[i].train.loss;
        EXPECT_EQ(same, i < 2) << "epoch " << i + 1;
      }
      EXPECT_EQ(run.report.epochs[1].validation->loss, expected.report.epochs[1].validation->loss);
    }
  }
}

TEST(Views, AreTheSameWhereTheyAreNotKept) {
  const test::TemporaryFolder folder("views_not_kept");
  const Photos photos(folder.path());
  TrainOptions options = quick_options();
  options.epochs = 5;
  options.views = 2;
  options.augmentation = data::Augmentation::parse("flip,rotate=20,brightness=0.2");
  const Outcome kept = run_of(head_alone(), photos, options);
  EXPECT_THAT(kept.report.features, HasSubstr("2 views of each of 30 photos"));
  options.cache_bytes = 0;
  const Outcome no_room = run_of(head_alone(), photos, options);
  EXPECT_THAT(no_room.report.features, HasSubstr("runs in every step: its values"));
  EXPECT_EQ(no_room.bytes, kept.bytes);
  options.cache_features = false;
  EXPECT_EQ(run_of(head_alone(), photos, options).bytes, kept.bytes);
}

TEST(Views, AreOtherValuesForAnotherSeedOrAugmentation) {
  const test::TemporaryFolder folder("views_key");
  const Photos photos(folder.path());
  TrainOptions options = with_folder(folder.path() / "cache");
  options.epochs = 6;
  options.views = 2;
  options.augmentation.flip = true;
  const auto earlier = [&] {
    return run_of(head_alone(), photos, options).report.features.find("earlier run") != std::string::npos;
  };
  EXPECT_FALSE(earlier());
  EXPECT_TRUE(earlier());
  options.seed = 1;
  EXPECT_FALSE(earlier());
  options.augmentation.zoom = 0.1;
  EXPECT_FALSE(earlier());
  options.views = 3;
  EXPECT_FALSE(earlier());
}

TEST(Views, NeedAnAugmentation) {
  const test::TemporaryFolder folder("views_none");
  const Photos photos(folder.path());
  nn::Network network = head_alone();
  TrainOptions options = quick_options();
  options.views = 2;
  EXPECT_ERROR(Trainer(network, photos.train, photos.validation, options),
               "2 views of each photo need an augmentation");
}

}  // namespace
}  // namespace graft::train
