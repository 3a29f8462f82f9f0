#pragma once

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "graft/data/folder.h"
#include "graft/nn/network.h"

#include "core/format.h"

/// What the subcommands of `graft` share. Each has a file of its own with a function `add_NAME` that declares its
/// options and what it does.
namespace graft::tools {

/// Keys stay in the order in which they are written.
using Json = nlohmann::ordered_json;

/// Options that make no sense, or no sense together: exit code 2, as for an unknown option.
class UsageError : public Error {
 public:
  using Error::Error;
};

template <class... Args>
void check_usage(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw UsageError(fmt::format(format, std::forward<Args>(args)...));
}

/// Adds a subcommand with its help, which ends in an example.
CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& description,
                      const std::string& example);

/// Says on standard error that a folder holds files that are taken for no photos, if it does.
void tell_ignored(const std::filesystem::path& folder, Index ignored);

/// Checks of an option: a number above 0, one of 0 or more, or a number of threads.
CLI::Validator positive();
CLI::Validator thread_count();
CLI::Validator not_negative();

/// `--threads`, `--engine`, `--device`, `--tf32`: applied to the calling thread before the command runs.
void add_machine_options(CLI::App& command);

/// `--weights FILE | --run RUN`: one of them.
struct WeightsOption {
  std::filesystem::path weights;
  std::filesystem::path run;

  /// The file: of a run its best network. Throws UsageError unless exactly one is given.
  std::filesystem::path file() const;
};
void add_weights_option(CLI::App& command, WeightsOption& option);

/// Names of classes, from a JSON list, a JSON object {"0": "name"} (or Keras's {"0": ["id", "name"]}), or a text with a
/// name a line. Throws Error unless they are UTF-8.
std::vector<std::string> read_class_names(const std::filesystem::path& path);

/// Throws UsageError if `out`, which a command is about to write, is one of the files that it reads.
void check_not_read(const std::filesystem::path& out, const std::vector<std::filesystem::path>& inputs);

/// The parts of a text between commas, without empty ones.
std::vector<std::string> split_commas(const std::vector<std::string>& texts);

/// Prints to standard output.
template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  fmt::print(stdout, format, std::forward<Args>(args)...);
}
void print_json(const Json& json);

/// How images are prepared, of `nn::preprocessing_json`, for people: `160x160, antialias, squash, RGB minus (127.5,
/// ...`.
std::string in_words(const Json& preprocessing);

/// 1234567 -> `1,234,567`.
std::string grouped(Index value);

/// One line on standard error that counts up; nothing if it is quiet.
class Counter {
 public:
  Counter(std::string what, Index total, bool quiet);
  ~Counter();
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;
  void show(Index done);

 private:
  std::string what_;
  Index total_;
  bool quiet_;
  bool drawn_ = false;
};

void add_convert(CLI::App& app);
void add_info(CLI::App& app);
void add_summary(CLI::App& app);
void add_predict(CLI::App& app);
void add_features(CLI::App& app);
void add_finetune(CLI::App& app);
void add_sweep(CLI::App& app);
void add_evaluate(CLI::App& app);
void add_report(CLI::App& app);
void add_doctor(CLI::App& app);

}  // namespace graft::tools
