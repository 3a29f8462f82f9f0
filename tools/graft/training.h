#pragma once

#include <functional>

#include "graft/train/cache_plan.h"

#include "common.h"

/// What the subcommands that train share.
namespace graft::tools {

/// `--data DIR [--validation DIR | --validation-split SHARE]`.
struct DataOptions {
  std::filesystem::path data, validation;
  double validation_split = 0.2;
};
struct DataOption {
  CLI::Option *validation, *split;
};
DataOption add_data_options(CLI::App& command, DataOptions& options);

struct Photos {
  data::ImageFolder train, validation;
};
/// `seed` decides which photos are kept for validation.
Photos read_photos(const DataOptions& options, std::uint64_t seed);
/// Throws UsageError if `out` lies in one of the folders, where every folder is a class, or one of them in the other.
void check_apart(const std::filesystem::path& out, const DataOptions& options);
/// Makes the folder that a command writes to, before the work. If that fails, a folder that was not there goes away
/// again, unless it holds one of the files that are of use by then.
void work_in(const std::filesystem::path& out, const std::vector<const char*>& of_use,
             const std::function<void()>& work);

/// `--no-cache`, `--cache DIR`, `--cache-limit GIB`, `--cache-memory GIB`.
struct CacheOptions {
  std::filesystem::path folder;
  double limit = 32, memory = 2;
  bool none = false;
};
void add_cache_options(CLI::App& command, CacheOptions& options, const char* group);
/// Sets the options of training. Without `--cache` the folder is `graft/features` where the user's caches are.
void apply(const CacheOptions& from, train::TrainOptions& to);

/// The part of a network that a head is grafted on: up to `cut`, or to its features.
nn::Network backbone_of(const nn::Network& network, const std::string& cut = {});

/// The table of ways to cut the frozen part, for people or as JSON.
void print_cache_plan(const train::CachePlan& plan, bool json);

}  // namespace graft::tools
