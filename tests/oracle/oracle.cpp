#include "oracle/oracle.h"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <stdexcept>

#include <unistd.h>

#include "graft/autograd/tape.h"

#include "core/format.h"

namespace graft::oracle {
namespace fs = std::filesystem;
namespace {

// A folder of its own in the build tree: the files of one model take up to a gigabyte, too much for a /tmp in memory.
class Folder {
 public:
  Folder() {
    const fs::path parent = fs::path(GRAFT_BINARY_DIR) / "tests/oracle";
    fs::create_directories(parent);
    std::string name = (parent / "XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a folder in " + parent.string());
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace

bool available() { return std::getenv("GRAFT_ORACLE_PYTHON") != nullptr; }

const fs::path& results(const std::string& script, const std::string& model) {
  static std::map<std::string, Folder> folders;
  const auto known = folders.find(model);
  if (known != folders.end()) return known->second.path();
  const Folder& folder = folders[model];
  // Idle OpenMP threads of PyTorch would spin, which costs a busy machine several times the work.
  const std::string command =
      fmt::format("OMP_WAIT_POLICY=PASSIVE '{}' -W ignore '{}/tests/oracle/{}' {} '{}'",
                  std::getenv("GRAFT_ORACLE_PYTHON"), GRAFT_SOURCE_DIR, script, model, folder.path().string());
  if (std::system(command.c_str()) != 0) throw std::runtime_error(fmt::format("{} {} failed", script, model));
  return folder.path();
}

double norm(const Tensor& tensor) {
  const Tensor wide = tensor.to(DType::f64);
  double sum = 0;
  for (const double value : wide.values<double>()) sum += value * value;
  return std::sqrt(sum);
}

double relative_error(const Tensor& actual, const Tensor& expected) {
  if (!(actual.shape() == expected.shape())) return std::numeric_limits<double>::infinity();
  const Tensor a = actual.to(DType::f64), b = expected.to(DType::f64);
  double difference = 0;
  for (Index i = 0; i < a.elements(); ++i) {
    const double d = a.data<double>()[i] - b.data<double>()[i];
    difference += d * d;
  }
  const double error = std::sqrt(difference) / norm(expected);
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

void Difference::add(const std::string& name, double value) {
  if (compared++ == 0 || value > error) {
    where = name;
    error = value;
  }
}

Difference compare_forward(nn::Network& network, const io::Safetensors& expected, Engine engine) {
  const autograd::NoGrad no_grad;
  ContextScope scope;
  scope->engine = engine;
  nn::RunOptions options;
  for (const auto& [name, unused] : expected.tensors) {
    if (name != "input" && name != "logits") options.watch.push_back(name);
  }
  const nn::RunResult result = network.run(expected.at("input"), options);
  Difference difference;
  for (const auto& [name, value] : expected.tensors) {
    if (name == "input") continue;
    difference.add(name, relative_error(name == "logits" ? result.logits : result.watched.at(name), value));
  }
  return difference;
}

std::pair<std::string, std::string> swap_alike(nn::Network& network) {
  std::map<std::string, std::string> seen;
  for (const nn::LayerEntry& layer : network.layers()) {
    for (const std::string& name : layer.parameters) {
      if (!name.ends_with("/weight")) continue;
      const auto [other, fresh] =
          seen.try_emplace(fmt::format("{} {}", layer.layer->type(), network.parameter(name).shape), name);
      if (fresh) continue;
      std::swap(network.parameter(name).value, network.parameter(other->second).value);
      return {other->second, name};
    }
  }
  throw std::runtime_error("no two layers of " + network.name + " are alike");
}

}  // namespace graft::oracle
