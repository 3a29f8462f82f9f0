#include "command_line.h"

#include <iostream>
#include <stdexcept>

#include <ATen/Parallel.h>
#include <torch/utils.h>

namespace peer {

Options::Options(int argc, char** argv, std::map<std::string, std::string> defaults) : values_(std::move(defaults)) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const std::size_t equals = word.find('=');
    if (!word.starts_with("--")) throw std::runtime_error("expected --key=value, got '" + word + "'");
    values_[word.substr(2, equals - 2)] = equals == std::string::npos ? "" : word.substr(equals + 1);
  }
}

const std::string& Options::at(const std::string& name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) throw std::runtime_error("expected an option --" + name);
  return found->second;
}

void say(const Json& line) { std::cout << line.dump() << std::endl; }

int run_program(int argc, char** argv, const std::map<std::string, std::string>& defaults,
                void (*program)(const Options&)) {
  try {
    const Options options(argc, argv, defaults);
    if (const int threads = options.number("threads"); threads > 0) at::set_num_threads(threads);
    torch::manual_seed(static_cast<std::uint64_t>(options.number("seed")));
    program(options);
    return 0;
  } catch (const std::exception& error) {
    const std::string text = error.what();
    say({{"error", text.substr(0, text.find('\n'))}});
    return 1;
  }
}

}  // namespace peer
