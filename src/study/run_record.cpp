#include "study/run_record.h"

#include <cmath>
#include <fstream>

#include <nlohmann/json.hpp>

#include "core/format.h"

namespace graft::study {
namespace {

using Json = nlohmann::ordered_json;

Json read_json(const std::filesystem::path& path) {
  std::ifstream stream(path);
  check(stream.good(), "{}: cannot be read; expected the folder of a run that 'graft finetune' made", path.string());
  Json json = Json::parse(stream, nullptr, /*allow_exceptions=*/false);
  check(json.is_object(), "{}: expected a JSON object, got {}", path.string(),
        json.is_discarded() ? "no JSON" : json.type_name());
  return json;
}

// A loss that was not finite stands in a log as null.
double loss_of(const Json& scores) {
  const Json& loss = scores.at("loss");
  return loss.is_null() ? std::nan("") : loss.get<double>();
}

std::vector<RunRecord::Epoch> read_log(const std::filesystem::path& path) {
  std::ifstream stream(path);
  check(stream.good(), "{}: cannot be read", path.string());
  std::vector<RunRecord::Epoch> epochs;
  for (std::string line; std::getline(stream, line);) {
    if (stream.eof()) break;  // without its end: the run was killed while it wrote the line, or the disk was full
    const Json json = Json::parse(line);
    RunRecord::Epoch epoch{.train_loss = loss_of(json.at("train")), .train_top1 = json.at("train").at("top1")};
    if (const Json& validation = json.at("validation"); !validation.is_null()) {
      epoch.validation_loss = loss_of(validation);
      epoch.validation_top1 = validation.at("top1").get<double>();
    }
    epochs.push_back(epoch);
  }
  return epochs;
}

std::string text_of(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

void read_summary(RunRecord& run, const Json& json) {
  run.network = json.at("network").at("name");
  run.classes = json.at("network").at("classes").get<std::vector<std::string>>();
  run.parameters = json.at("network").at("parameters");
  run.trainable = json.at("network").at("trainable");
  run.frozen_features = json.at("frozen_features");
  for (const auto& [name, hash] : json.at("frozen").items()) run.frozen.emplace_back(name, hash.get<std::string>());
  for (const auto& [name, value] : json.at("options").items()) run.options.emplace_back(name, text_of(value));
  const Json& results = json.at("results");
  run.best_epoch = results.at("best_epoch");
  run.seconds = results.at("seconds");
  run.confusion = results.at("confusion").get<std::vector<std::vector<Index>>>();
}

void read_data(RunRecord& run, const Json& json) {
  for (const auto& [name, value] : json.items()) {
    if (name != "validation") run.options.emplace_back(name, text_of(value));
  }
  for (const Json& photo : json.at("validation"))
    run.validation.emplace_back(photo.at(0).get<std::string>(), photo.at(1).get<Index>());
}

}  // namespace

std::string RunRecord::label(Index index) const {
  return index >= 0 && index < static_cast<Index>(classes.size()) ? classes[static_cast<std::size_t>(index)]
                                                                  : std::to_string(index);
}

RunRecord read_run(const std::filesystem::path& folder, const std::string& title) {
  RunRecord run;
  run.folder = folder;
  const std::filesystem::path named = folder.has_filename() ? folder : folder.parent_path();
  run.title = title.empty() ? named.filename().string() : title;
  const Json summary = read_json(folder / "run.json");
  try {
    read_summary(run, summary);
    run.epochs = read_log(folder / "log.jsonl");
    if (std::filesystem::exists(folder / "data.json")) read_data(run, read_json(folder / "data.json"));
  } catch (const nlohmann::json::exception& error) {
    fail("{}: not the record of a run: {}", folder.string(), error.what());
  }
  check(run.best_epoch >= 1 && run.best_epoch <= static_cast<Index>(run.epochs.size()),
        "{}: run.json names epoch {} as the best, log.jsonl has {}", folder.string(), run.best_epoch,
        run.epochs.size());
  return run;
}

}  // namespace graft::study
