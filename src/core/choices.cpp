#include "core/choices.h"

#include <cstdlib>
#include <fstream>
#include <string_view>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "core/format.h"

namespace graft {

bool autotunes() {
  static const bool wanted = [] {
    const char* text = std::getenv("GRAFT_AUTOTUNE");
    return text != nullptr && std::string_view(text) == "1";
  }();
  return wanted;
}

std::filesystem::path user_cache_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0') return cache;
  const char* home = std::getenv("HOME");
  return home != nullptr && *home != '\0' ? std::filesystem::path(home) / ".cache" : std::filesystem::path();
}

Choices::Choices(std::filesystem::path file) : file_(std::move(file)) { read(); }

void Choices::read() {
  std::ifstream stream(file_);
  const auto json = nlohmann::json::parse(stream, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return;
  for (const auto& [machine, calls] : json.items()) {
    if (!calls.is_object()) continue;
    for (const auto& [call, engine] : calls.items())
      if (engine.is_string()) engines_[machine].try_emplace(call, engine.get<std::string>());
  }
}

std::optional<std::string> Choices::find(const std::string& machine, const std::string& call) const {
  const std::lock_guard lock(mutex_);
  const auto calls = engines_.find(machine);
  if (calls == engines_.end()) return std::nullopt;
  const auto engine = calls->second.find(call);
  if (engine == calls->second.end()) return std::nullopt;
  return engine->second;
}

std::string Choices::keep(const std::string& machine, const std::string& call, const std::string& engine) {
  const std::lock_guard lock(mutex_);
  const auto [kept, is_new] = engines_[machine].try_emplace(call, engine);
  if (!is_new || file_.empty()) return kept->second;
  read();  // what other processes found meanwhile
  std::error_code ignored;
  std::filesystem::create_directories(file_.parent_path(), ignored);
  std::filesystem::path beside = file_;
  beside += fmt::format(".{}", ::getpid());
  {
    std::ofstream stream(beside);
    stream << nlohmann::json(engines_).dump(1) << '\n';
    if (!stream.flush()) {
      std::filesystem::remove(beside, ignored);
      return engine;
    }
  }
  std::filesystem::rename(beside, file_, ignored);
  return engine;
}

Choices& choices() {
  static Choices one = [] {
    const std::filesystem::path cache = user_cache_folder();
    return Choices(cache.empty() ? cache : cache / "graft" / "kernel-choices.json");
  }();
  return one;
}

}  // namespace graft
