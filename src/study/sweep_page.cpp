#include "graft/study/sweep_page.h"

#include "graft/core/version.h"
#include "graft/io/file.h"

#include "core/format.h"
#include "study/chart.h"
#include "study/html.h"

namespace graft::study {
namespace {

constexpr int kColors = 6;  // of the palette in style()

const train::Scores& scores_of(const train::EpochRecord& epoch) {
  return epoch.validation ? *epoch.validation : epoch.train;
}

std::string by_depth(const train::Sweep& sweep) {
  Series training{.name = "training", .values = {}, .color = 1, .dashed = true},
      validation{.name = "validation", .values = {}, .color = 0};
  for (const train::Depth& depth : sweep.depths) {
    const train::EpochRecord& best = depth.report.best();
    training.values.emplace_back(best.train.top1);
    if (best.validation) validation.values.emplace_back(best.validation->top1);
  }
  std::vector<Series> lines{training};
  if (!validation.values.empty()) lines.push_back(validation);
  return R"(<div class="card">)" + line_chart(lines, {.title = "Accuracy by depth", .share = true, .along = "depth"}) +
         "</div>";
}

std::string table(const train::Sweep& sweep) {
  std::string html =
      R"(<div class="card"><table><thead><tr><th>depth<th>layer<th>channels<th>GFLOP a photo<th>weights trained<th>accuracy<th>loss<th>best epoch<th>time</tr></thead><tbody>)";
  int number = 0;
  for (const train::Depth& depth : sweep.depths) {
    const train::Scores& best = scores_of(depth.report.best());
    html += fmt::format(
        "<tr><td>{}<td><code>{}</code><td>{}<td>{:.2f}<td>{}<td><b>{:.1f} %</b><td>{:.3f}<td>{} of {}<td>{:.1f} s</tr>",
        ++number, escape(depth.layer), depth.width, 1e-9 * depth.operations, depth.trained, 100 * best.top1, best.loss,
        depth.report.best_epoch, depth.report.epochs.size(), depth.report.seconds);
  }
  return html + "</tbody></table></div>";
}

std::string curves(const train::Sweep& sweep) {
  std::vector<Series> lines;
  for (const train::Depth& depth : sweep.depths) {
    Series line{.name = depth.layer, .values = {}, .color = static_cast<int>(lines.size()) % kColors};
    for (const train::EpochRecord& epoch : depth.report.epochs) line.values.emplace_back(scores_of(epoch).top1);
    lines.push_back(std::move(line));
  }
  return R"(<div class="card">)" + line_chart(lines, {.title = "Accuracy by epoch", .share = true}) + "</div>";
}

}  // namespace

void write_sweep_page(const train::Sweep& sweep, const std::string& network, const std::filesystem::path& out) {
  check(!sweep.depths.empty(), "[sweep] expected at least one layer, got none");
  const std::string title = fmt::format("{}, layer by layer", network);
  std::string html = fmt::format(
      R"(<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">)"
      "<title>{}</title><style>{}</style></head><body><main><h1>{}</h1>",
      escape(title), style(), escape(title));
  html += fmt::format(
      R"(<p class="quiet">graft {}, {} in {:.1f} s, of which {:.1f} s for what is frozen. {}</p>)", kVersion,
      sweep.fine_tune ? "fine-tuning" : "probes", sweep.seconds, sweep.frozen_seconds,
      sweep.fine_tune ? "At each depth the layers behind it were trained with a new linear classifier."
                      : "At each depth a linear classifier was trained on the layer's value, averaged over the image.");
  html += by_depth(sweep) + table(sweep) + curves(sweep);
  io::write_file_atomically(out, html + "</main></body></html>\n");
}

}  // namespace graft::study
