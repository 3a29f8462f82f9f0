#include "train/checkpoint.h"

#include "graft/io/safetensors.h"

#include "core/format.h"

namespace graft::train {

using nlohmann::json;

namespace {

constexpr const char* kFacts = "graft.training";

void append(io::Safetensors& file, const std::string& prefix, const Tensors& tensors) {
  for (const auto& [name, value] : tensors) file.tensors.emplace_back(prefix + name, value);
}

}  // namespace

Tensors snapshot(nn::Network& network, const std::vector<std::string>& names) {
  Tensors values;
  for (const std::string& name : names) values[name] = network.parameter(name).value.clone();
  return values;
}

void restore(nn::Network& network, const Tensors& values) {
  for (const auto& [name, value] : values) network.parameter(name).value.copy_from(value);
}

void write_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  io::Safetensors file;
  file.metadata[kFacts] = checkpoint.facts.dump(-1, ' ', false, json::error_handler_t::replace);
  append(file, "weights/", checkpoint.weights);
  append(file, "best/", checkpoint.best);
  append(file, "optimizer/", checkpoint.optimizer);
  io::write_safetensors(path, file);
}

Checkpoint read_checkpoint(const std::filesystem::path& path) {
  const io::Safetensors file = io::read_safetensors(path);
  const auto facts = file.metadata.find(kFacts);
  check(facts != file.metadata.end(), "{}: expected a checkpoint of a training run, got tensors without one's metadata",
        path.string());
  Checkpoint checkpoint;
  checkpoint.facts = json::parse(facts->second, nullptr, false);
  check(checkpoint.facts.is_object(), "{}: the checkpoint's metadata is not JSON", path.string());
  for (const auto& [key, value] : file.tensors) {
    const auto slash = key.find('/');
    const std::string part = key.substr(0, slash), name = slash == std::string::npos ? "" : key.substr(slash + 1);
    if (part == "weights")
      checkpoint.weights[name] = value;
    else if (part == "best")
      checkpoint.best[name] = value;
    else if (part == "optimizer")
      checkpoint.optimizer[name] = value;
    else
      fail("{}: tensor '{}' has no place in a checkpoint", path.string(), key);
  }
  return checkpoint;
}

void check_same_run(const std::filesystem::path& path, const json& checkpoint, const json& now) {
  for (const char* part : {"options", "data", "frozen", "layers"}) {
    check(checkpoint.contains(part) && checkpoint[part].is_object(), "{}: the checkpoint does not say its {}",
          path.string(), part);
    const json &before = checkpoint[part], &after = now.at(part);
    for (const auto& [key, value] : after.items()) {
      const json then = before.value(key, json());
      const bool longer = key == "epochs" && then.is_number() && then <= value;
      check(then == value || longer, "{}: the run was made with {} '{}' {}, cannot continue it with {}", path.string(),
            part, key, then.dump(), value.dump());
    }
    check(before.size() == after.size(), "{}: the run was made with other {}: {} entries, expected {}", path.string(),
          part, before.size(), after.size());
  }
}

std::string other_versions(const json& checkpoint, const json& now) {
  const json before = checkpoint.value("versions", json::object()), &after = now.at("versions");
  json all = after;
  if (before.is_object()) all.update(before);
  std::vector<std::string> others;
  for (auto one = all.begin(); one != all.end(); ++one) {
    const auto of = [&one](const json& versions) {
      const auto found = versions.find(one.key());
      return found == versions.end() ? "none" : found->is_string() ? found->get<std::string>() : found->dump();
    };
    if (of(before) != of(after)) others.push_back(fmt::format("{} {}, now {}", one.key(), of(before), of(after)));
  }
  return fmt::format("{}", fmt::join(others, "; "));
}

}  // namespace graft::train
