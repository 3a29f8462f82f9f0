#include <cerrno>
#include <csignal>
#include <cstring>
#include <new>
#include <sstream>

#include "graft/core/version.h"

#include "common.h"

namespace graft::tools {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongUsage = 2;

// The sentence comes first; of a list behind it, such as a conversion's gaps, enough to see what is wrong.
int complain(const std::string& sentence, int code) {
  constexpr int kMostLines = 12;
  std::istringstream lines(sentence);
  std::string text, line;
  int count = 0;
  while (std::getline(lines, line)) {
    if (++count <= kMostLines) text += line + "\n";
  }
  if (count > kMostLines) text += fmt::format("  and {} more\n", count - kMostLines);
  std::fflush(stdout);
  fmt::print(stderr, "graft: {}", text);
  return code;
}

int run(int argc, char** argv) {
  CLI::App app("Takes a trained convolutional network, grafts a new head onto it and trains it on your photos.",
               "graft");
  app.set_version_flag("--version", kVersion);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  add_convert(app);
  add_info(app);
  add_summary(app);
  add_predict(app);
  add_features(app);
  add_finetune(app);
  add_sweep(app);
  add_evaluate(app);
  add_report(app);
  add_doctor(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    const auto chosen = app.get_subcommands();
    if (!chosen.empty())
      return complain(fmt::format("{} (see 'graft {} --help')", error.what(), chosen.front()->get_name()), kWrongUsage);
    const auto unknown = app.remaining();
    return complain((unknown.empty() ? std::string(error.what()) : "there is no subcommand '" + unknown.front() + "'") +
                        " (see 'graft --help')",
                    kWrongUsage);
  }
  // A full disk behind standard output shows only here.
  check(std::fflush(stdout) == 0 && std::ferror(stdout) == 0, "standard output cannot be written: {}",
        std::strerror(errno));
  return 0;
}

}  // namespace
}  // namespace graft::tools

int main(int argc, char** argv) {
  using namespace graft::tools;
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on the size of files ends in an error of `write`, as a full disk does
  try {
    return run(argc, argv);
  } catch (const UsageError& error) {
    return complain(error.what(), kWrongUsage);
  } catch (const std::bad_alloc&) {
    return complain("out of memory", kFailed);
  } catch (const std::exception& error) {
    return complain(error.what(), kFailed);
  }
}
