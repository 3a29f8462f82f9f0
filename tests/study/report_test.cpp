#include "graft/study/report.h"

#include <fstream>

#include <gmock/gmock.h>

#include "data/support.h"
#include "study/chart.h"
#include "study/html.h"

namespace graft::study {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::ThrowsMessage;

std::string read_text(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

void write_run(const data::TemporaryFolder& folder, const std::string& name) {
  folder.write(name + "/run.json",
               R"({"network": {"name": "net", "classes": ["cat", "<dog>"], "parameters": 1200, "trainable": 34},
    "frozen_features": "kept", "frozen": {"conv/weight": "0123abcd"}, "options": {"epochs": 2, "optimizer": "adam"},
    "results": {"best_epoch": 2, "seconds": 75, "confusion": [[3, 1], [0, 4]]}})");
  folder.write(name + "/log.jsonl",
               R"({"train": {"loss": 1.5, "top1": 0.5}, "validation": {"loss": 1.25, "top1": 0.625}}
{"train": {"loss": 0.5, "top1": 0.75}, "validation": {"loss": 0.75, "top1": 0.875}}
)");
}

TEST(Html, EscapesAndEncodes) {
  EXPECT_EQ(escape("<a href=\"x\">'&'</a>"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
  const auto encoded = [](const std::string& text) {
    return data_uri("t", std::as_bytes(std::span(text)));
  };  // RFC 4648, section 10
  EXPECT_EQ(encoded(""), "data:t;base64,");
  EXPECT_EQ(encoded("f"), "data:t;base64,Zg==");
  EXPECT_EQ(encoded("fo"), "data:t;base64,Zm8=");
  EXPECT_EQ(encoded("foobar"), "data:t;base64,Zm9vYmFy");
}

TEST(Chart, DrawsAPointForEachValueAndBreaksAtGaps) {
  const std::string svg = line_chart({{.name = "loss", .values = {2.0, std::nullopt, 1.0, 0.5}}}, {.title = "Loss"});
  std::size_t circles = 0, moves = 0;
  for (std::size_t at = 0; (at = svg.find("<circle", at)) != std::string::npos; ++at) ++circles;
  for (std::size_t at = svg.find(" d=\"M"); at < svg.find("\"/>", svg.find(" d=\"M")); ++at) moves += svg[at] == 'M';
  EXPECT_EQ(circles, 3u);
  EXPECT_EQ(moves, 2u);
}

TEST(Report, ShowsARunAndEscapesItsNames) {
  const data::TemporaryFolder folder;
  write_run(folder, "one");
  write_report({.title = "A & B", .runs = {{folder.path() / "one"}}}, folder.path() / "page.html");
  const std::string page = read_text(folder.path() / "page.html");
  for (const char* part :
       {"A &amp; B", "87.5 %", "0.750", "2 of 2", "1:15 min", "&lt;dog&gt;", "0123abcd", "adam", "1 frozen tensors"})
    EXPECT_THAT(page, HasSubstr(part));
  for (const char* part : {"<dog>", "http://", "https://", "<script", "src=\"/"})
    EXPECT_THAT(page, Not(HasSubstr(part)));
}

TEST(Report, ComparesRuns) {
  const data::TemporaryFolder folder;
  write_run(folder, "one");
  write_run(folder, "two");
  write_report({.runs = {{folder.path() / "one", "first"}, {folder.path() / "two/"}}}, folder.path() / "page.html");
  const std::string page = read_text(folder.path() / "page.html");
  EXPECT_THAT(page, HasSubstr("<h2>first</h2>"));
  EXPECT_THAT(page, HasSubstr("<h2>two</h2>"));
}

// A run that was killed while it wrote a line, and one in f16 that left out a step for its loss.
TEST(Report, TakesALogAsItIs) {
  const data::TemporaryFolder folder;
  write_run(folder, "one");
  folder.write("one/log.jsonl", std::string(R"({"train": {"loss": 1.5, "top1": 0.5}, "validation": null}
{"train": {"loss": null, "top1": 0.75}, "validation": null}
{"train": {"loss": 0.2)"));
  folder.write("one/data.json", std::string(R"({"data": "photos", "validation": [["/nowhere/1.png", 0]]})"));
  write_report({.runs = {{folder.path() / "one"}}}, folder.path() / "page.html");
  const std::string page = read_text(folder.path() / "page.html");
  for (const char* part : {"2 of 2", "75.0 %", "nan", "None of the 1 photos it was not trained on is where it was"})
    EXPECT_THAT(page, HasSubstr(part));
}

TEST(Report, RefusesWhatIsNoRun) {
  const data::TemporaryFolder folder;
  const auto page = folder.path() / "page.html";
  const auto report = [&] { write_report({.runs = {{folder.path() / "one"}}}, page); };
  EXPECT_THAT(report, ThrowsMessage<Error>(HasSubstr("run.json")));
  write_run(folder, "one");
  folder.write("one/log.jsonl", std::string("{\"train\": \n"));
  EXPECT_THAT(report, ThrowsMessage<Error>(HasSubstr("not the record of a run")));
  folder.write("one/log.jsonl", std::string());
  EXPECT_THAT(report, ThrowsMessage<Error>(HasSubstr("log.jsonl has 0")));
  EXPECT_FALSE(std::filesystem::exists(page));
}

}  // namespace
}  // namespace graft::study
