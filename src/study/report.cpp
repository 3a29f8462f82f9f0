#include "graft/study/report.h"

#include <algorithm>
#include <numeric>

#include "graft/core/version.h"
#include "graft/data/image.h"
#include "graft/data/resize.h"
#include "graft/io/file.h"
#include "graft/io/network_file.h"
#include "graft/predict/predictor.h"

#include "core/format.h"
#include "study/chart.h"
#include "study/html.h"
#include "study/run_record.h"

namespace graft::study {
namespace {

constexpr int kColors = 6;  // of the palette in style()

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

std::string millions(Index count) {
  return count >= 1000000 ? fmt::format("{:.2f} M", static_cast<double>(count) * 1e-6)
         : count >= 1000  ? fmt::format("{:.1f} k", static_cast<double>(count) * 1e-3)
                          : std::to_string(count);
}

std::string duration(double seconds) {
  return seconds < 60 ? fmt::format("{:.1f} s", seconds)
                      : fmt::format("{}:{:02} min", static_cast<int>(seconds) / 60, static_cast<int>(seconds) % 60);
}

// The accuracy that a run is judged by: on validation data where there are some.
double accuracy(const RunRecord& run) { return run.best().validation_top1.value_or(run.best().train_top1); }

template <class Field>
Series series(const RunRecord& run, std::string name, int color, bool dashed, Field field) {
  Series line{.name = std::move(name), .values = {}, .color = color % kColors, .dashed = dashed};
  for (const RunRecord::Epoch& epoch : run.epochs) line.values.push_back(field(epoch));
  return line;
}

std::string comparison(const std::vector<RunRecord>& runs) {
  std::string html =
      R"(<div class="card"><table><thead><tr><th>run<th>network<th>accuracy<th>loss<th>best epoch<th>trained<th>time</tr></thead><tbody>)";
  std::vector<Series> accuracies;
  int color = 0;
  for (const RunRecord& run : runs) {
    const RunRecord::Epoch& best = run.best();
    html += fmt::format("<tr><td>{}<td>{}<td><b>{}</b><td>{:.3f}<td>{} of {}<td>{}<td>{}</tr>", escape(run.title),
                        escape(run.network), percent(accuracy(run)), best.validation_loss.value_or(best.train_loss),
                        run.best_epoch, run.epochs.size(), millions(run.trainable), duration(run.seconds));
    accuracies.push_back(series(run, run.title, color++, false, [](const RunRecord::Epoch& e) {
      return e.validation_top1 ? e.validation_top1 : e.train_top1;
    }));
  }
  return html + R"(</tbody></table></div><div class="card">)" +
         line_chart(accuracies, {.title = "Accuracy", .share = true}) + "</div>";
}

std::string facts(const RunRecord& run) {
  const RunRecord::Epoch& best = run.best();
  const bool validated = best.validation_top1.has_value();
  const auto fact = [](const std::string& value, const std::string& what) {
    return fmt::format("<div><b>{}</b><span>{}</span></div>", value, escape(what));
  };
  return R"(<div class="facts">)" +
         fact(percent(accuracy(run)), validated ? "validation accuracy" : "training accuracy") +
         fact(fmt::format("{:.3f}", best.validation_loss.value_or(best.train_loss)),
              validated ? "validation loss" : "training loss") +
         fact(fmt::format("{} of {}", run.best_epoch, run.epochs.size()), "best epoch") +
         fact(millions(run.trainable), fmt::format("weights trained, of {}", millions(run.parameters))) +
         fact(duration(run.seconds), "training time") + "</div>";
}

std::string curves(const RunRecord& run) {
  using Epoch = RunRecord::Epoch;
  const auto chart = [&](const std::string& title, bool share, auto train, auto validation) {
    std::vector<Series> lines{series(run, "training", 1, true, train)};
    if (run.best().validation_loss) lines.push_back(series(run, "validation", 0, false, validation));
    return R"(<div class="card">)" + line_chart(lines, {.title = title, .share = share}) + "</div>";
  };
  return R"(<div class="pair">)" +
         chart(
             "Loss", false, [](const Epoch& e) { return std::optional(e.train_loss); },
             [](const Epoch& e) { return e.validation_loss; }) +
         chart(
             "Accuracy", true, [](const Epoch& e) { return std::optional(e.train_top1); },
             [](const Epoch& e) { return e.validation_top1; }) +
         "</div>";
}

std::string confusion(const RunRecord& run) {
  constexpr std::size_t kMostClasses = 40;  // of a table that can be read
  const auto& table = run.confusion;
  if (table.empty() || table.size() > kMostClasses) return {};
  std::string html =
      R"(<div class="card"><h3>Confusion after the last epoch</h3><p class="quiet">A row is what is on the photo, a column what the network says.</p>)"
      R"(<table class="confusion"><thead><tr><th>)";
  for (std::size_t i = 0; i < table.size(); ++i) html += "<th>" + escape(run.label(static_cast<Index>(i)));
  html += "</tr></thead><tbody>";
  for (std::size_t row = 0; row < table.size(); ++row) {
    const Index sum = std::accumulate(table[row].begin(), table[row].end(), Index{0});
    html += "<tr><th>" + escape(run.label(static_cast<Index>(row)));
    for (std::size_t column = 0; column < table[row].size(); ++column) {
      const double share = sum == 0 ? 0 : static_cast<double>(table[row][column]) / static_cast<double>(sum);
      html += fmt::format(R"html(<td{} style="background:rgba(var(--heat),{:.2f})" title="{} of {} {}">{})html",
                          row == column ? R"( class="right")" : "", 0.6 * share, table[row][column], sum,
                          escape(run.label(static_cast<Index>(row))),
                          table[row][column] == 0 ? "" : std::to_string(table[row][column]));
    }
    html += "</tr>";
  }
  return html + "</tbody></table></div>";
}

// `count` of them, evenly, so that every class has its share.
std::vector<std::pair<std::filesystem::path, Index>> chosen_photos(const RunRecord& run, Index count) {
  std::vector<std::pair<std::filesystem::path, Index>> there, chosen;
  for (const auto& photo : run.validation) {
    if (std::filesystem::exists(photo.first)) there.push_back(photo);
  }
  const auto all = static_cast<Index>(there.size());
  count = std::min(count, all);
  for (Index i = 0; i < count; ++i) chosen.push_back(there[static_cast<std::size_t>((2 * i + 1) * all / (2 * count))]);
  return chosen;
}

std::string photos(const RunRecord& run, Index count) {
  constexpr Index kThumbnail = 176;
  const auto chosen = chosen_photos(run, count);
  if (chosen.empty()) {
    return count == 0 || run.validation.empty()
               ? ""
               : fmt::format(
                     R"(<p class="quiet">None of the {} photos it was not trained on is where it was, in {}.</p>)",
                     run.validation.size(), escape(run.validation.front().first.parent_path().string()));
  }
  const predict::Predictor predictor(io::load_network(run.folder / "best.safetensors"));
  std::string figures;
  Index right = 0;
  for (const auto& [file, label] : chosen) {
    const Tensor image = data::decode_image(file);
    const predict::Prediction best = predictor.predict(image, 1).front();
    const bool is_right = best.index == label;
    right += is_right;
    const Tensor thumbnail = data::resize(image, kThumbnail, kThumbnail, Resampling::antialias, Fit::pad);
    figures += fmt::format(
        R"(<figure><img src="{}" alt="{}" title="{}"><figcaption class="{}">{} {}<div class="bar"><i style="width:{:.0f}%"></i></div></figcaption>)",
        data_uri("image/jpeg", data::encode_jpeg(thumbnail)), escape(run.label(label)),
        escape(file.filename().string()), is_right ? "good" : "bad", is_right ? "&#10003;" : "&#10007;",
        escape(best.label), 100 * best.probability);
    figures += fmt::format(R"(<figcaption class="quiet">{}{}</figcaption></figure>)", percent(best.probability),
                           is_right ? "" : fmt::format(", is {}", escape(run.label(label))));
  }
  return fmt::format(
             R"(<div class="card"><h3>Photos it was not trained on</h3><p class="quiet">{} of these {} are named rightly by the network of the best epoch.</p>)",
             right, chosen.size()) +
         R"(<div class="photos">)" + figures + "</div></div>";
}

std::string rows(const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::string html = "<table>";
  for (const auto& [name, value] : pairs)
    html += fmt::format("<tr><td>{}<td><code>{}</code></tr>", escape(name), escape(value));
  return html + "</table>";
}

std::string background(const RunRecord& run) {
  std::string html = R"(<div class="card">)";
  html += run.frozen.empty()
              ? "<p>Nothing was frozen.</p>"
              : fmt::format("<p>{} frozen tensors have the same hash before and after the run.</p>", run.frozen.size());
  if (!run.frozen_features.empty()) html += fmt::format(R"(<p class="quiet">{}</p>)", escape(run.frozen_features));
  if (!run.frozen.empty())
    html += "<details><summary>Frozen tensors and their hashes</summary>" + rows(run.frozen) + "</details>";
  return html + "<details><summary>Options</summary>" + rows(run.options) + "</details></div>";
}

}  // namespace

void write_report(const ReportOptions& options, const std::filesystem::path& out) {
  check(!options.runs.empty(), "[report] expected at least one run, got none");
  check(options.photos >= 0, "[report] expected a number of photos of 0 or more, got {}", options.photos);
  std::vector<RunRecord> runs;
  for (const ReportRun& run : options.runs) runs.push_back(read_run(run.folder, run.title));

  std::string html = fmt::format(
      R"(<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">)"
      "<title>{}</title><style>{}</style></head><body><main><h1>{}</h1>",
      escape(options.title), style(), escape(options.title));
  html += fmt::format(R"(<p class="quiet">graft {}, {} run{}</p>)", kVersion, runs.size(), runs.size() == 1 ? "" : "s");
  if (runs.size() > 1) html += comparison(runs);
  for (const RunRecord& run : runs) {
    html += fmt::format("<section><h2>{}</h2><p class=\"quiet\">{}, {} classes</p>", escape(run.title),
                        escape(run.network), run.classes.size());
    html += facts(run) + curves(run) + confusion(run) + photos(run, options.photos) + background(run) + "</section>";
  }
  io::write_file_atomically(out, html + "</main></body></html>\n");
}

}  // namespace graft::study
