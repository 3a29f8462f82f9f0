"""What pages of measurements share: their style, names of networks and work, and what they say about the machine."""

import html

from comparison import is_reached

NAMES = {"vgg16": "VGG16", "resnet50": "ResNet50", "mobilenet": "MobileNet", "inception_v3": "InceptionV3", "vit_base": "ViT-B/16"}
WORK = {"inference": "Inference", "training": "Training step", "head": "Training a head on a frozen backbone", "finetune": "Fine-tuning the last block",
        "first": "From start to first prediction",
        "head job": "A new head on a frozen backbone, from photos to a trained network", "finetune job": "The last block trained too, from photos to a trained network",
        "probes job": "Linear classifiers at six depths", "depths job": "Fine-tuning from six depths"}
STYLE = """
:root { color-scheme: light dark; --page: #fafaf8; --text: #1c1c1a; --quiet: #6a6a64; --line: #dcdcd6; --graft: #178a6b; --peer: #9db4d3; }
@media (prefers-color-scheme: dark) { :root { --page: #161615; --text: #e9e9e4; --quiet: #9c9c94; --line: #383834; --graft: #4cc7a3; --peer: #47628a; } }
body { margin: 0 auto; max-width: 1000px; padding: 32px 20px 64px; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 28px; margin: 0; } h2 { font-size: 21px; margin: 44px 0 4px; } h3 { font-size: 16px; margin: 20px 0 2px; }
p { margin: 6px 0; } .quiet { color: var(--quiet); font-size: 14px; } code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--text); font: 13px system-ui, sans-serif; } svg .quiet { fill: var(--quiet); }
.graft { fill: var(--graft); } .peer { fill: var(--peer); } .ceiling { stroke: var(--text); stroke-dasharray: 3 3; }
table { border-collapse: collapse; font-size: 14px; } th, td { padding: 3px 12px 3px 0; text-align: right; } th:first-child, td:first-child { text-align: left; }
"""


def name_of(model):
    return html.escape(NAMES.get(model, model))


def bytes_text(count):
    return "-" if not count else f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def times_as_fast(against):
    """A ratio with its interval, and what was wanted."""
    interval = f" ({against['low']:.2f} to {against['high']:.2f})" if "low" in against else ""
    target = ""
    if "target" in against:
        verdict = ", one round" if "low" not in against else "" if is_reached(against) else " missed"
        target = f", target {against['target']}x{verdict}"
    return f"{against['ratio']:.2f}x{interval}{target}"


def head(report, title, explanation, style=STYLE):
    """The start of a page: what was measured, where, when and how."""
    about = report["machine"]
    where = about["cpu"] if report["device"] == "cpu" else about["gpu"]
    return [f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}, {about["date"]}</title>',
            f"<style>{style}</style><h1>{title}</h1>",
            f'<p>{html.escape(where)}, {about["cores"]} cores, {report["threads"]} threads, {html.escape(about["memory"])}; {about["date"]}, at commit {html.escape(about["commit"])}</p>',
            f'<p class="quiet"><code>{html.escape(report["command"])}</code></p>',
            f'<p class="quiet">{explanation}</p>']


def left_out(case, where=""):
    """Who did not take part in a case, and why."""
    return "".join(f'<p class="quiet">Left out{where}: {html.escape(reason if reason.startswith(name) else f"{name}: {reason}")}</p>' for name, reason in case["left_out"].items())
