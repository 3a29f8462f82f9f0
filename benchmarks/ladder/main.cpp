// The teaching ladders of cuda/ladder/: checks every rung, counts on the emulated device what it asks of memory, and
// times it on a GPU beside the library's kernel.
#include <cstdio>
#include <fstream>
#include <iostream>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "graft/core/error.h"

#include "core/backend.h"
#include "core/format.h"
#include "ladder.h"
#include "runtime/launches.h"

#if GRAFT_HAS_EMULATED
#include "emulated/traffic.h"
#endif

namespace graft::ladder {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string device = "emulated";
  std::string ladder;
  bool count = false;
  std::string json;
};

#if GRAFT_HAS_EMULATED
// What the rung's launches ask of memory at the size that is counted.
Json traffic_of(const Rung& rung, const Problem& problem, Device device) {
  ContextScope scope;
  scope->engine = Engine::native;
  scope->device = device;
  const Tensors in = operands(rung, problem.inputs, device);
  const Tensor to = Tensor::empty(problem.result, rung.dtype, device);
  synchronize(device);
  graft::emulated::count_traffic(true);
  graft::emulated::take_traffic();
  run(rung, in, to);
  synchronize(device);
  graft::emulated::count_traffic(false);
  graft::emulated::Traffic sum;
  Json kernels = Json::array();
  for (const auto& [name, traffic] : graft::emulated::take_traffic()) {
    sum += traffic;
    kernels.push_back(name);
  }
  constexpr std::int64_t kSector = 32;
  // What Hopper's units write and read there is not counted: the rest alone would mislead.
  const auto shared = [&](std::int64_t count) { return rung.hopper ? Json() : Json(count); };
  return {{"problem", problem.text},
          {"operations", problem.operations},
          {"least_bytes", problem.elements * static_cast<double>(size_of(rung.dtype))},
          {"global_requests", sum.global_requests},
          {"read_bytes", sum.read_sectors * kSector},
          {"written_bytes", sum.written_sectors * kSector},
          {"shared_requests", shared(sum.shared_requests)},
          {"shared_wavefronts", shared(sum.shared_wavefronts)},
          {"bank_conflicts", shared(sum.bank_conflicts)},
          {"launches", kernels}};
}
#endif

Json timing_of(const Rung& rung, const Problem& problem, Device device, const Roofline& roofline) {
  const double milliseconds = *measure(rung, problem, device, Engine::native).milliseconds;
  const double bytes = problem.elements * static_cast<double>(size_of(rung.dtype));
  Json row{{"problem", problem.text},
           {"milliseconds", milliseconds},
           {"gflops", problem.operations / milliseconds * 1e-6},
           {"gbytes_per_second", bytes / milliseconds * 1e-6},
           {"roofline_share", roofline.seconds(problem, rung.dtype) * 1e3 / milliseconds},
           {"library_milliseconds", nullptr}};
  if (rung.in_use()) {
    const Timing library = measure(rung, problem, device, Engine::library);
    if (library.milliseconds)
      row["library_milliseconds"] = *library.milliseconds;
    else
      row["library_obstacle"] = library.obstacle;
  }
  return row;
}

void print(std::ostream& to, const Json& rung) {
  to << fmt::format("  {:24} {:5}", rung["name"].get<std::string>(), rung["dtype"].get<std::string>());
  if (rung.contains("worst_error"))
    to << fmt::format(" error {:5.1f} % of the bound", 100 * rung["worst_error"].get<double>());
  if (rung.contains("not_run")) to << " not run: " << rung["not_run"].get<std::string>();
  if (rung.contains("failure")) to << "  FAILED: " << rung["failure"].get<std::string>();
  if (rung.contains("counted")) {
    const Json& counted = rung["counted"];
    const auto shared = [&](const char* what) {
      return counted[what].is_null() ? std::string("not counted") : counted[what].dump();
    };
    to << fmt::format("  read {:8.1f} KiB, written {:7.1f} KiB, {:>11} wavefronts, {:>11} conflicts",
                      counted["read_bytes"].get<double>() / 1024, counted["written_bytes"].get<double>() / 1024,
                      shared("shared_wavefronts"), shared("bank_conflicts"));
  }
  if (rung.contains("measured")) {
    const Json& measured = rung["measured"];
    to << fmt::format("  {:9.3f} ms {:9.1f} GFLOP/s {:7.1f} GB/s {:5.1f} % of the roofline",
                      measured["milliseconds"].get<double>(), measured["gflops"].get<double>(),
                      measured["gbytes_per_second"].get<double>(), 100 * measured["roofline_share"].get<double>());
    if (!measured["library_milliseconds"].is_null())
      to << fmt::format(", library {:.3f} ms", measured["library_milliseconds"].get<double>());
    if (measured.contains("library_obstacle"))
      to << fmt::format(", no library kernel: {}", measured["library_obstacle"].get<std::string>());
  }
  to << '\n';
}

// The largest error of a rung in all small problems, as a share of what rounding allows.
double worst_error(const Rung& rung, const std::vector<Problem>& problems, Device device) {
  const auto hopper_products = [] { return launch_counts()["hopper_product"]; };
  const std::int64_t before = hopper_products();
  double worst = 0;
  for (const Problem& problem : problems) worst = std::max(worst, check(rung, problem, device));
  graft::check(!rung.hopper || !rung.in_use() || hopper_products() > before,
               "[{}] graft computed every problem without Hopper's units", rung.name);
  return worst;
}

// A rung that fails does not keep the others from being looked at.
Json look_at(const Ladder& ladder, Device device, const DeviceDescription& about, [[maybe_unused]] bool count,
             std::ostream& to, bool& failed) {
  to << ladder.name << '\n';
  std::vector<Problem> small;
  for (const Ladder::Sizes& sizes : ladder.checked) small.push_back(ladder.problem(sizes));
  const bool timed = device.kind == Device::Kind::cuda;
  const Problem large = timed ? ladder.problem(ladder.measured) : Problem{};
  Json rows = Json::array();
  for (const Rung& rung : ladder.rungs) {
    Json row{{"name", rung.name}, {"dtype", name(rung.dtype)}};
    if (const char* const obstacle = rung.obstacle(device, about.architecture)) {
      row["not_run"] = obstacle;
      print(to, row);
      rows.push_back(std::move(row));
      continue;
    }
    try {
      row["worst_error"] = worst_error(rung, small, device);
      if (timed) row["measured"] = timing_of(rung, large, device, Roofline::of(about.name));
#if GRAFT_HAS_EMULATED
      if (!timed && count)
        row["counted"] =
            traffic_of(rung, ladder.problem(rung.in_use() ? ladder.counted_in_use : ladder.counted), device);
#endif
    } catch (const Error& error) {
      row["failure"] = error.what();
      failed = true;
    }
    print(to, row);
    to.flush();
    rows.push_back(std::move(row));
  }
  return {{"name", ladder.name}, {"rungs", std::move(rows)}};
}

int main_of(const Options& options) {
  const Device device = Device::parse(options.device);
  graft::check(device.kind != Device::Kind::cpu, "[ladder] expected a device with kernels, cuda or emulated, got cpu");
  graft::check(!options.count || device.kind == Device::Kind::emulated, "[ladder] --count needs --device emulated");
  const DeviceDescription description = backend(device).describe();
  const bool only_json = options.json == "-";
  std::ostream silent(nullptr);
  std::ostream& to = only_json ? silent : std::cout;
  Json result{{"device", {{"name", description.name}, {"architecture", description.architecture}}},
              {"ladders", Json::array()}};
  if (device.kind == Device::Kind::cuda) {
    const Roofline roofline = Roofline::of(description.name);
    result["ceilings"] = {{"of", roofline.gpu},
                          {"f32_operations_per_second", roofline.f32_operations},
                          {"bf16_operations_per_second", roofline.bf16_operations},
                          {"bytes_per_second", roofline.bytes}};
  }
  bool failed = false;
  for (const Ladder& ladder : ladders()) {
    if (options.ladder.empty() || options.ladder == ladder.name)
      result["ladders"].push_back(look_at(ladder, device, description, options.count, to, failed));
  }
  if (only_json) {
    std::cout << result.dump(1) << '\n';
  } else if (!options.json.empty()) {
    std::ofstream file(options.json);
    file << result.dump(1) << '\n';
    graft::check(file.good(), "[ladder] cannot write {}", options.json);
  }
  return failed ? 1 : 0;
}

}  // namespace
}  // namespace graft::ladder

int main(int argc, char** argv) {
  graft::ladder::Options options;
  CLI::App app{
      "The teaching ladders: every kernel from the naive one to the one in use is checked, and on a GPU timed"};
  app.add_option("--device", options.device, "where the kernels run: emulated, cuda or cuda:N")->capture_default_str();
  std::vector<std::string> names;
  for (const auto& ladder : graft::ladder::ladders()) names.push_back(ladder.name);
  app.add_option("--ladder", options.ladder, "one ladder alone")->check(CLI::IsMember(names));
  app.add_flag("--count", options.count, "count what each rung asks of memory (emulated device)");
  app.add_option("--json", options.json,
                 "write the results to this file; without a file, or with -, to standard output")
      ->expected(0, 1)
      ->default_str("-");
  CLI11_PARSE(app, argc, argv);
  try {
    return graft::ladder::main_of(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
