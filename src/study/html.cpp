#include "study/html.h"

#include <cstdint>

namespace graft::study {

std::string escape(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\'':
        safe += "&#39;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

std::string data_uri(std::string_view type, std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text = "data:" + std::string(type) + ";base64,";
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t three = 0;
    for (std::size_t k = 0; k < 3; ++k)
      three = three << 8 | (i + k < bytes.size() ? std::to_integer<std::uint32_t>(bytes[i + k]) : 0);
    for (std::size_t k = 0; k < 4; ++k) text += i + k <= bytes.size() ? kDigits[three >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

std::string_view style() {
  return R"(
:root { color-scheme: light dark; --page: #fafaf8; --card: #fff; --text: #1c1c1a; --quiet: #6a6a64; --line: #dcdcd6;
  --good: #1a7f4b; --bad: #c2361f; --heat: 42, 98, 189;
  --s0: #2a62bd; --s1: #d9730d; --s2: #178a6b; --s3: #a43fa8; --s4: #8a6d1d; --s5: #c2361f; }
@media (prefers-color-scheme: dark) { :root { --page: #161615; --card: #1f1f1d; --text: #e9e9e4; --quiet: #9c9c94; --line: #383834;
  --good: #57c78b; --bad: #ff7f66; --heat: 108, 160, 245;
  --s0: #6ca0f5; --s1: #f5a04c; --s2: #4cc7a3; --s3: #d98bdc; --s4: #d3b45c; --s5: #ff7f66; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; } h2 { font-size: 23px; margin: 48px 0 12px; } h3 { font-size: 16px; margin: 0 0 8px; }
p { margin: 4px 0 12px; } .quiet { color: var(--quiet); font-size: 14px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px; margin: 14px 0; overflow-x: auto; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 14px; } .pair .card { margin: 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 14px; margin: 14px 0; }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 14px; }
.facts b { display: block; font-size: 23px; font-variant-numeric: tabular-nums; }
.facts span { color: var(--quiet); font-size: 13px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } th, td { padding: 5px 10px; text-align: right; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 1px solid var(--line); color: var(--quiet); font-weight: 500; font-size: 14px; }
.confusion td { text-align: center; min-width: 42px; border: 1px solid var(--card); } .confusion th { font-size: 13px; font-weight: 500; text-align: center; }
.confusion th:first-child { text-align: left; white-space: nowrap; } .confusion .right { font-weight: 700; }
svg { display: block; width: 100%; max-width: 640px; height: auto; } svg text { fill: var(--quiet); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--line); } .curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 14px; margin-top: 6px; } .legend svg { display: inline-block; width: 26px; height: 10px; margin-right: 6px; }
.photos { display: grid; grid-template-columns: repeat(auto-fill, minmax(132px, 1fr)); gap: 14px; }
figure { margin: 0; } figure img { width: 100%; aspect-ratio: 1; display: block; border-radius: 8px; border: 1px solid var(--line); }
figcaption { font-size: 13px; line-height: 1.35; margin-top: 4px; } .good { color: var(--good); } .bad { color: var(--bad); } .good, .bad { font-weight: 600; }
.bar { height: 4px; border-radius: 2px; background: var(--line); margin: 3px 0; } .bar i { display: block; height: 100%; border-radius: 2px; background: currentColor; }
details { margin: 10px 0; } summary { cursor: pointer; } code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
details td { text-align: left; vertical-align: top; font-size: 14px; padding: 2px 10px; }
)";
}

}  // namespace graft::study
