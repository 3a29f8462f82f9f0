#include "train/run_files.h"

#include <fstream>

#include "graft/io/file.h"

#include "core/format.h"
#include "train/options.h"

namespace graft::train {

void RunFiles::check_startable(bool resume) const {
  const auto summary = folder_ / "run.json";
  const bool holds_run = std::filesystem::exists(checkpoint()) || std::filesystem::exists(summary);
  check(resume || !holds_run, "{}: the folder holds a run already; resume it or choose another", folder_.string());
  if (!std::filesystem::exists(summary)) return;
  std::ifstream file(summary);
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  check(json.is_object(), "{}: expected a JSON object, got {}", summary.string(),
        json.is_discarded() ? "no JSON" : json.type_name());
  check(json.value("status", "") != "diverged",
        "{}: the run diverged and would again; start anew in another folder with a lower learning rate",
        folder_.string());
}

void RunFiles::make_folder() const {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  check(!error, "{}: cannot make the folder of the run: {}", folder_.string(), error.message());
  for (const auto& entry : std::filesystem::directory_iterator(folder_, error)) {
    const std::string name = entry.path().filename().string();
    for (const char* own :
         {"checkpoint.safetensors", "best.safetensors", "last.safetensors", "log.jsonl", "run.json", "data.json"}) {
      if (name.starts_with(std::string(own) + std::string(io::kPartial))) std::filesystem::remove(entry.path(), error);
    }
  }
}

void RunFiles::rewrite_log(const std::vector<EpochRecord>& epochs) const {
  std::string text;
  for (const EpochRecord& epoch : epochs) text += to_json(epoch).dump() + "\n";
  io::write_file_atomically(folder_ / "log.jsonl", text);
}

void RunFiles::append_to_log(const EpochRecord& epoch) const {
  const auto path = folder_ / "log.jsonl";
  std::ofstream file(path, std::ios::app);
  file << to_json(epoch).dump() << "\n" << std::flush;
  check(file.good(), "{}: cannot write the log", path.string());
}

void RunFiles::write_summary(const nlohmann::json& summary) const {
  io::write_file_atomically(folder_ / "run.json",
                            summary.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

}  // namespace graft::train
