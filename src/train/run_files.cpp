#include "train/run_files.h"

#include <fstream>

#include "graft/io/file.h"

#include "core/format.h"
#include "train/options.h"

namespace graft::train {

void RunFiles::make_folder() const {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  check(!error, "{}: cannot make the folder of the run: {}", folder_.string(), error.message());
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
  io::write_file_atomically(folder_ / "run.json", summary.dump(2) + "\n");
}

}  // namespace graft::train
