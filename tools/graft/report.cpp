#include "graft/study/report.h"

#include <fstream>

#include "common.h"

namespace graft::tools {
namespace {

struct Options {
  std::vector<std::filesystem::path> runs;
  std::vector<std::string> titles;
  std::filesystem::path out;
  study::ReportOptions report;
};

// A page may be written again; anything else that is there was not meant.
void check_is_page(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream.good()) return;
  constexpr std::string_view kPage = "<!doctype html";
  std::string begin(kPage.size(), ' ');
  stream.read(begin.data(), std::ssize(begin));
  check(stream.gcount() == 0 || begin == kPage, "{}: is there already and is no page of graft's: give another name",
        file.string());
}

void report(Options options) {
  check_is_page(options.out);
  check_usage(options.titles.empty() || options.titles.size() == options.runs.size(),
              "expected a --name for each of {} runs, got {}", options.runs.size(), options.titles.size());
  for (std::size_t i = 0; i < options.runs.size(); ++i) {
    options.report.runs.push_back({options.runs[i], options.titles.empty() ? "" : options.titles[i]});
  }
  study::write_report(options.report, options.out);
  say("{}\n", options.out.string());
}

}  // namespace

void add_report(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* c = add_command(app, "report", "Write a page that shows one run or compares several",
                            "graft report head-run block5-run --name 'new head' --name 'block 5 too' -o report.html");
  c->add_option("runs", o->runs, "Folders that 'graft finetune' made")->required()->type_name("RUN");
  c->add_option("-o,--out", o->out, "The HTML file to write")->required()->type_name("OUT");
  c->add_option("--title", o->report.title, "Of the page");
  c->add_option("--name", o->titles, "What a run is called, in the order of the runs; repeat for each")
      ->allow_extra_args(false)
      ->default_str("")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  c->add_option("--photos", o->report.photos, "Validation photos shown for each run")->check(not_negative());
  add_machine_options(*c);
  c->callback([o] { report(*o); });
}

}  // namespace graft::tools
