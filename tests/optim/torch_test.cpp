#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "graft/optim/optimizer.h"
#include "graft/optim/schedule.h"

#include "core/format.h"

namespace graft {
namespace {

using nlohmann::json;
using optim::Algorithm;
using optim::Schedule;

constexpr int kSteps = 100;

struct Case {
  std::string what;
  optim::OptimizerOptions options;
  std::optional<double> rate_of_b = {}, decay_of_b = {};
  Schedule schedule = {};
};

const std::vector<Case> kCases{
    {"plain SGD", {.algorithm = Algorithm::sgd, .learning_rate = 0.01}},
    {"momentum", {.algorithm = Algorithm::sgd, .learning_rate = 0.01, .momentum = 0.9}},
    {"Nesterov", {.algorithm = Algorithm::sgd, .learning_rate = 0.01, .momentum = 0.9, .nesterov = true}},
    {"SGD with decay", {.algorithm = Algorithm::sgd, .learning_rate = 0.01, .weight_decay = 0.1, .momentum = 0.8}},
    {"Adam", {.algorithm = Algorithm::adam, .learning_rate = 0.02}},
    {"Adam with decay",
     {.algorithm = Algorithm::adam, .learning_rate = 0.02, .weight_decay = 0.1, .beta1 = 0.8, .beta2 = 0.99}},
    {"AdamW", {.algorithm = Algorithm::adamw, .learning_rate = 0.02, .weight_decay = 0.1, .epsilon = 1e-4}},
    {"a group with its own rate", {.algorithm = Algorithm::adam, .learning_rate = 0.02}, 0.001},
    {"a group with its own decay",
     {.algorithm = Algorithm::adamw, .learning_rate = 0.02, .weight_decay = 0.1},
     0.05,
     0.0},
    {"clipped", {.algorithm = Algorithm::sgd, .learning_rate = 0.1, .momentum = 0.9, .clip_norm = 1.5}},
    {"step schedule",
     {.algorithm = Algorithm::sgd, .learning_rate = 0.05},
     {},
     {},
     {.kind = Schedule::Kind::step, .every = 30}},
    {"cosine schedule", {.learning_rate = 0.05}, 0.01, {}, {.kind = Schedule::Kind::cosine, .total = kSteps}},
    {"warm-up", {.learning_rate = 0.05}, {}, {}, {.warmup = 7}},
    {"warm-up, then cosine",
     {.algorithm = Algorithm::adamw, .learning_rate = 0.05, .weight_decay = 0.01},
     {},
     {},
     {.kind = Schedule::Kind::cosine, .warmup = 10, .total = kSteps}},
    {"warm-up, then steps",
     {.algorithm = Algorithm::sgd, .learning_rate = 0.05, .momentum = 0.5},
     {},
     {},
     {.kind = Schedule::Kind::step, .warmup = 5, .every = 20, .decay = 0.5}},
};

const std::map<std::string, std::vector<double>> kStart{{"a", {0.3, -1.2, 2.5, 0.01, -0.4}}, {"b", {1.5, -0.7, 0.2}}};

json to_json(const Case& c) {
  json b = json::object();
  if (c.rate_of_b) b["lr"] = *c.rate_of_b;
  if (c.decay_of_b) b["weight_decay"] = *c.decay_of_b;
  const optim::OptimizerOptions& o = c.options;
  const Schedule& s = c.schedule;
  return {{"start", kStart},
          {"steps", kSteps},
          {"groups", {{"a", json::object()}, {"b", b}}},
          {"options",
           {{"algorithm", name(o.algorithm)},
            {"learning_rate", o.learning_rate},
            {"weight_decay", o.weight_decay},
            {"momentum", o.momentum},
            {"nesterov", o.nesterov},
            {"beta1", o.beta1},
            {"beta2", o.beta2},
            {"epsilon", o.epsilon},
            {"clip_norm", o.clip_norm}}},
          {"schedule",
           {{"kind", name(s.kind)}, {"warmup", s.warmup}, {"every", s.every}, {"decay", s.decay}, {"total", s.total}}}};
}

// The gradient that torch_oracle.py uses.
void set_gradient(Tensor w) {
  std::vector<double> g;
  for (std::size_t i = 0; i < w.values<double>().size(); ++i) {
    const double x = w.data<double>()[i], index = static_cast<double>(i);
    g.push_back((1 + index) * (x - index / 2) + std::cos(x));
  }
  w.set_grad(Tensor::from(w.shape(), g));
}

json ask_torch(const json& cases) {
  const auto file = std::filesystem::temp_directory_path() / fmt::format("graft_optim_{}.json", getpid());
  std::ofstream(file) << cases;
  const std::string command = fmt::format("'{}' '{}/tests/optim/torch_oracle.py' '{}'",
                                          std::getenv("GRAFT_ORACLE_PYTHON"), GRAFT_SOURCE_DIR, file.string());
  std::string text;
  FILE* pipe = popen(command.c_str(), "r");
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) text.push_back(static_cast<char>(c));
  EXPECT_EQ(pclose(pipe), 0) << command;
  std::filesystem::remove(file);
  return json::parse(text);
}

TEST(Optimizer, EqualsTorchOver100StepsInF64) {
  if (std::getenv("GRAFT_ORACLE_PYTHON") == nullptr) {
    GTEST_SKIP() << "set GRAFT_ORACLE_PYTHON to a Python with torch to compare with its optimizers";
  }
  json cases = json::array();
  for (const Case& c : kCases) cases.push_back(to_json(c));
  const json expected = ask_torch(cases);
  ASSERT_EQ(expected.size(), kCases.size());
  for (std::size_t k = 0; k < kCases.size(); ++k) {
    const Case& c = kCases[k];
    SCOPED_TRACE(c.what);
    Tensor a = Tensor::from({5}, kStart.at("a")), b = Tensor::from({3}, kStart.at("b"));
    optim::Optimizer optimizer(
        c.options, {{.parameters = {{"a", a}}},
                    {.parameters = {{"b", b}}, .learning_rate = c.rate_of_b, .weight_decay = c.decay_of_b}});
    for (int step = 0; step < kSteps; ++step) {
      optimizer.set_factor(factor(c.schedule, step));
      EXPECT_NEAR(optimizer.learning_rate(), expected[k]["rates"][static_cast<std::size_t>(step)].get<double>(), 1e-12)
          << "step " << step;
      set_gradient(a);
      set_gradient(b);
      optimizer.step();
    }
    for (const auto& [key, w] : {std::pair{"a", a}, std::pair{"b", b}}) {
      const auto end = expected[k]["end"][key].get<std::vector<double>>();
      for (std::size_t i = 0; i < end.size(); ++i) EXPECT_NEAR(w.data<double>()[i], end[i], 1e-9) << key << i;
    }
  }
}

}  // namespace
}  // namespace graft
