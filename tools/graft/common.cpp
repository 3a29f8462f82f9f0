#include "common.h"

#include <cmath>
#include <fstream>
#include <memory>

#include <unistd.h>

#include "graft/core/context.h"

#include "data/utf8.h"
#include "kernels/registry.h"

namespace graft::tools {

CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& description,
                      const std::string& example) {
  CLI::App* command = app.add_subcommand(name, description);
  command->footer("Example:\n  " + example + "\n");
  command->option_defaults()->always_capture_default();
  return command;
}

namespace {

CLI::Validator number_check(const std::string& expected, const std::string& type, bool (*holds)(double)) {
  return {[=](const std::string& text) {
            double value = 0;
            const bool good = CLI::detail::lexical_cast(text, value) && holds(value);
            return good ? std::string() : fmt::format("expected {}, got {}", expected, text);
          },
          type};
}

}  // namespace

CLI::Validator positive() {
  return number_check("a number above 0", "POSITIVE", [](double value) { return value > 0 && std::isfinite(value); });
}

CLI::Validator thread_count() {
  return number_check("a number from 0 to 1024", "THREADS", [](double value) { return value >= 0 && value <= 1024; });
}

void tell_ignored(const std::filesystem::path& folder, Index ignored) {
  if (ignored == 0) return;
  fmt::print(stderr, "{}: {} {} left out: photos are .jpg, .jpeg, .png and .bmp\n", folder.string(), ignored,
             ignored == 1 ? "file is" : "files are");
}

CLI::Validator not_negative() {
  return number_check("a number of 0 or more", "NONNEGATIVE",
                      [](double value) { return value >= 0 && std::isfinite(value); });
}

namespace {

// Whether the chosen device has what is asked of it: before the work.
void check_machine() {
  const Context& context = Context::current();
  check_usage(!context.allow_tf32 || context.device.kind != Device::Kind::cpu,
              "--tf32: the CPU multiplies f32 in f32; leave it out, or give --device cuda");
  if (context.engine != Engine::library) return;
  const kernels::Built built = kernels::built();
  check(context.device.kind != Device::Kind::cpu || built.onednn,
        "--engine library: this build of graft is without oneDNN: install libdnnl-dev and configure with "
        "-DGRAFT_WITH_ONEDNN=ON");
  check(context.device.kind != Device::Kind::cuda || built.cudnn,
        "--engine library: this build of graft is without cuDNN: run tools/fetch-cudnn-frontend and configure with "
        "-DGRAFT_WITH_CUDNN=ON");
  check(context.device.kind != Device::Kind::emulated,
        "--engine library: the emulated device runs graft's own kernels alone; use auto or native");
}

}  // namespace

void add_machine_options(CLI::App& command) {
  command.parse_complete_callback(check_machine);
  // CLI11 runs these while it parses, so they hold for the whole command.
  command
      .add_option_function<int>(
          "--threads", [](int count) { set_threads(count); }, "Threads for everything; 0 takes all cores")
      ->check(thread_count())
      ->group("Machine");
  command
      .add_option_function<std::string>(
          "--engine", [](const std::string& text) { Context::current().engine = engine_from_name(text); },
          "auto (the fastest), native (graft's own kernels) or library (oneDNN; cuDNN and cuBLAS on a GPU)")
      ->check(CLI::IsMember({"auto", "native", "library"}))
      ->group("Machine");
  command
      .add_option_function<std::string>(
          "--device",
          [](const std::string& text) {
            const Device device = Device::parse(text);
            Stream::create(device);  // for its error, before the work
            Context::current().device = device;
          },
          "cpu, cuda, cuda:N, or emulated: the CUDA kernels on the CPU, slow and watched for mistakes")
      ->type_name("DEVICE")
      ->group("Machine");
  command
      .add_flag_callback(
          "--tf32", [] { Context::current().allow_tf32 = true; },
          "Products of f32 on tensor cores of a GPU: faster, with 10 bits of each factor's fraction instead of 23")
      ->group("Machine");
}

void add_weights_option(CLI::App& command, WeightsOption& option) {
  command
      .add_option("--weights", option.weights,
                  "A network in a safetensors file, made by 'graft convert' or 'graft finetune'")
      ->type_name("FILE");
  command.add_option("--run", option.run, "A folder that 'graft finetune' made: its best network")->type_name("RUN");
}

std::filesystem::path WeightsOption::file() const {
  check_usage(weights.empty() != run.empty(), "expected one of --weights and --run, got {}",
              weights.empty() ? "neither" : "both");
  if (run.empty()) return weights;
  std::filesystem::path best = run / "best.safetensors";
  check(std::filesystem::is_regular_file(best), "{}: not the folder of a run, it has no best.safetensors",
        run.string());
  return best;
}

std::vector<std::string> read_class_names(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  check(stream.good() && std::filesystem::is_regular_file(path), "{}: cannot be read", path.string());
  const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  std::vector<std::string> names;
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_array()) {
    for (const Json& name : json) {
      check(name.is_string(), "{}: expected a list of class names, got the entry {}", path.string(), name.dump());
      names.push_back(name);
    }
  } else if (json.is_object()) {
    for (std::size_t i = 0; i < json.size(); ++i) {
      const auto found = json.find(std::to_string(i));
      check(found != json.end(), "{}: expected names of the classes 0 to {}, {} is missing", path.string(),
            json.size() - 1, i);
      const Json& name = found->is_array() && !found->empty() ? found->back() : *found;
      check(name.is_string(), "{}: expected a name for class {}, got {}", path.string(), i, found->dump());
      names.push_back(name);
    }
  } else {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (!line.empty()) names.push_back(line);
    }
  }
  check(!names.empty(), "{}: holds no class names", path.string());
  for (const std::string& name : names)
    check(data::is_utf8(name), "{}: expected class names in UTF-8, got '{}'", path.string(), name);
  return names;
}

void check_not_read(const std::filesystem::path& out, const std::vector<std::filesystem::path>& inputs) {
  for (const std::filesystem::path& input : inputs) {
    std::error_code none;
    check_usage(!std::filesystem::equivalent(out, input, none),
                "-o {}: expected another file than {}, which is read and would be replaced", out.string(),
                input.string());
  }
}

std::vector<std::string> split_commas(const std::vector<std::string>& texts) {
  std::vector<std::string> parts;
  for (const std::string& text : texts) {
    std::istringstream stream(text);
    for (std::string part; std::getline(stream, part, ',');) {
      if (!part.empty()) parts.push_back(part);
    }
  }
  return parts;
}

void print_json(const Json& json) { say("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace)); }

std::string in_words(const Json& p) {
  const auto channels = [&](const char* key) {
    return fmt::format("({:g})", fmt::join(p[key].get<std::vector<double>>(), ", "));
  };
  return fmt::format("{}x{}, {}, {}, {} minus {} over {}", p["height"].get<int>(), p["width"].get<int>(),
                     p["resampling"].get<std::string>(), p["fit"].get<std::string>(),
                     p["bgr"].get<bool>() ? "BGR" : "RGB", channels("mean"), channels("divisor"));
}

std::string grouped(Index value) {
  std::string digits = std::to_string(value);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) digits.insert(static_cast<std::size_t>(at), ",");
  return digits;
}

Counter::Counter(std::string what, Index total, bool quiet)
    : what_(std::move(what)), total_(total), quiet_(quiet || isatty(STDERR_FILENO) != 1) {}

void Counter::show(Index done) {
  if (quiet_) return;
  fmt::print(stderr, "\r\x1b[K{} {}/{}", what_, done, total_);
  std::fflush(stderr);
  drawn_ = true;
}

Counter::~Counter() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
}

}  // namespace graft::tools
