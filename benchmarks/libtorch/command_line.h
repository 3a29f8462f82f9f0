// What LibTorch's programs share: options, and the lines of JSON that they print.
#pragma once

#include <map>
#include <string>

#include <nlohmann/json.hpp>

namespace peer {

using Json = nlohmann::json;

// `--key=value` and `--key`, over defaults.
class Options {
 public:
  // Throws for a word that is no option.
  Options(int argc, char** argv, std::map<std::string, std::string> defaults);

  bool contains(const std::string& name) const { return values_.contains(name); }
  // Throws if it was not given and has no default.
  const std::string& at(const std::string& name) const;
  int number(const std::string& name) const { return std::stoi(at(name)); }

 private:
  std::map<std::string, std::string> values_;
};

void say(const Json& line);

// Sets the number of threads and the seed, and runs the program; what it throws is said as {"error": sentence}.
int run_program(int argc, char** argv, const std::map<std::string, std::string>& defaults,
                void (*program)(const Options&));

}  // namespace peer
