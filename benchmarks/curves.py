"""The page of a result of tools/bench-scale: curves of time, speed and memory, and the numbers under them."""

import html
import itertools
import math

import photos
from page import STYLE, WORK, bytes_text, head, left_out, name_of, times_as_fast

WIDTH, HEIGHT = 470, 280
LEFT, RIGHT, TOP, BOTTOM = 62, 30, 28, 46  # what the axes take around the curves
CURVES = """
:root { --graft: #178a6b; --second: #3f6fb5; --third: #b26a00; }
@media (prefers-color-scheme: dark) { :root { --graft: #4cc7a3; --second: #86aee8; --third: #e0a450; } }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); gap: 8px 24px; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 18px; font-size: 14px; } .legend svg { display: inline; width: 14px; height: 14px; vertical-align: -2px; margin-right: 5px; }
.grid { stroke: var(--line); } .guide { stroke: var(--quiet); stroke-dasharray: 4 4; fill: none; }
.curve { fill: none; stroke-width: 2; } .first { stroke: var(--graft); } .second { stroke: var(--second); } .third { stroke: var(--third); }
.mark { stroke: var(--page); stroke-width: 1; } .mark.first { fill: var(--graft); } .mark.second { fill: var(--second); } .mark.third { fill: var(--third); }
summary { color: var(--quiet); font-size: 14px; cursor: pointer; } td, th { font-variant-numeric: tabular-nums; }
"""
KINDS = ["first", "second", "third"]


def number_text(value):
    """As an axis says it."""
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def memory_text(value):
    return bytes_text(value) if value else "0"


class Axis:
    """From values to a range of the picture; a logarithmic one begins and ends at a step of its ticks, another at zero."""

    def __init__(self, values, begin, end, logarithmic, ticks=None):
        self.begin, self.end, self.map = begin, end, math.log if logarithmic else float
        if ticks:
            self.low, self.high, self.ticks = min(ticks), max(ticks), ticks
        elif logarithmic:
            steps = [digit * 10.0**power for power in range(-6, 13) for digit in ((1, 2, 5) if max(values) / min(values) < 100 else (1,))]
            self.low = max(step for step in steps if step <= min(values))
            self.high = min(step for step in steps if step >= max(values))
            self.ticks = [step for step in steps if self.low <= step <= self.high]
        else:
            rough = max(values) / 4
            size = 10.0 ** math.floor(math.log10(rough))
            step = next(digit * size for digit in (1, 2, 2.5, 5, 10) if digit * size >= rough)
            self.low, self.high = 0, step * math.ceil(max(values) / step)
            self.ticks = [step * i for i in range(round(self.high / step) + 1)]

    def at(self, value):
        if self.high == self.low:
            return (self.begin + self.end) / 2
        share = (self.map(value) - self.map(self.low)) / (self.map(self.high) - self.map(self.low))
        return self.begin + share * (self.end - self.begin)


def mark(kind, x, y, title):
    """A circle, a square or a triangle, so that a curve is known by more than its colour."""
    inside = f"<title>{html.escape(title)}</title>"
    if kind == "first":
        return f'<circle class="mark {kind}" cx="{x:.1f}" cy="{y:.1f}" r="4.5">{inside}</circle>'
    if kind == "second":
        return f'<rect class="mark {kind}" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8">{inside}</rect>'
    return f'<path class="mark {kind}" d="M{x:.1f} {y - 5:.1f}l5 9h-10z">{inside}</path>'


def chart(what, x_label, y_label, series, log_x=False, log_y=False, tick_text=number_text, y_text=number_text, guide=None):
    """Curves [(name, [(x, y)])]; a guide (words, x, y) is a line of what is proportional to x, through that point."""
    xs = sorted({x for _, values in series for x, _ in values})
    x_axis = Axis(xs, LEFT, WIDTH - RIGHT, log_x, ticks=xs)
    y_axis = Axis([y for _, values in series for _, y in values], HEIGHT - BOTTOM, TOP, log_y)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(what)}">']
    for tick in y_axis.ticks:
        y = y_axis.at(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/><text class="quiet" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{y_text(tick)}</text>')
    labelled_until = 0
    for tick in x_axis.ticks:
        x, half = x_axis.at(tick), 4 * len(tick_text(tick))
        if x - half < labelled_until:
            continue
        labelled_until = x + half
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}"/><text class="quiet" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick_text(tick)}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(x_label)}</text>')
    if guide and len(xs) > 1:
        words, slope = guide[0], guide[2] / guide[1]
        ends = [max(xs[0], y_axis.low / slope), min(xs[-1], y_axis.high / slope)]
        parts.append('<path class="guide" d="M' + "L".join(f"{x_axis.at(x):.1f} {y_axis.at(slope * x):.1f}" for x in ends) + f'"><title>{html.escape(words)}</title></path>')
    for kind, (name, values) in zip(KINDS, series):
        points = [(x_axis.at(x), y_axis.at(y), f"{name}, {tick_text(x)}: {y_text(y)}") for x, y in sorted(values)]
        parts.append(f'<path class="curve {kind}" d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in points) + '"/>')
        parts += [mark(kind, x, y, title) for x, y, title in points]
    parts.append(f'<text x="2" y="14">{html.escape(y_label)}</text>')
    return "\n".join(parts + ["</svg>"])


def beside_each_other(names, charts):
    """Charts of the same curves, under their names."""
    legend = "".join(f'<span><svg viewBox="0 0 14 14">{mark(kind, 7, 7, name)}</svg>{html.escape(name)}</span>' for kind, name in zip(KINDS, names))
    return f'<div class="legend">{legend}</div><div class="charts">{"".join(charts)}</div>'


def table(columns, rows):
    """Numbers to unfold."""
    line = lambda cells, tag: "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"
    return f'<details><summary>Numbers</summary><table>{line(columns, "th")}{"".join(line(row, "td") for row in rows)}</table></details>'


def names_of(points):
    """Everyone who was there at some point."""
    return list(dict.fromkeys(name for point in points for name in point["contestants"]))


def by_contestant(points, x, y):
    return [(name, [(x(point), y(point, name)) for point in points if name in point["contestants"]]) for name in names_of(points)]


def beside(points, x_name, x, more=()):
    """The table of a comparison's points: speeds, ratios and memory, and other columns (name, text(point, name)) of each contestant."""
    names = names_of(points)
    columns = [x_name] + [f"{name}, images/s" for name in names] + [f"times as fast as {name}" for name in names[1:]] + [f"{name}, {what}" for what, _ in more for name in names]
    columns += [f"{name}, memory" for name in names]
    rows = []
    for point in points:
        there, ratios = point["contestants"], point["ratios"]
        row = [x(point)] + [f"{there[name]['images_per_second']:,.1f}" if name in there else "-" for name in names] + [times_as_fast(ratios[name]) if name in ratios else "-" for name in names[1:]]
        row += [text(point, name) for _, text in more for name in names] + [bytes_text(there[name]["peak_bytes"]) if name in there else "-" for name in names]
        rows.append(row)
    return table(columns, rows)


def speed(point, name):
    return point["contestants"][name]["images_per_second"]


def of_batch(points):
    x = lambda point: point["batch"]
    memory = by_contestant(points, x, lambda point, name: point["contestants"][name]["peak_bytes"])
    return [chart("images a second by batch", "batch", "images/s", by_contestant(points, x, speed), log_x=True),
            chart("peak memory by batch", "batch", "peak memory", memory, log_x=True, log_y=True, y_text=memory_text)], beside(points, "batch", x)


def of_threads(points):
    x = lambda point: point["threads"]
    faster = lambda point, name: point["speed_up"].get(name, {"ratio": 1})["ratio"]
    text = lambda point, name: times_as_fast(point["speed_up"][name]) if name in point["speed_up"] else "-"
    return [chart("images a second by threads", "threads", "images/s", by_contestant(points, x, speed)),
            chart("speed-up by threads", "threads", "times one thread", by_contestant(points, x, faster), guide=("as many times as threads", 1, 1))], \
        beside(points, "threads", x, [("speed-up", text)])


def of_image(points):
    x = lambda point: point["image"] ** 2
    first = next(iter(points[-1]["contestants"]))
    milliseconds = by_contestant(points, x, lambda point, name: 1e3 / speed(point, name))
    memory = by_contestant(points, x, lambda point, name: point["contestants"][name]["peak_bytes"])
    side = lambda pixels: f"{math.isqrt(pixels)}²"
    return [chart("milliseconds an image by pixels", "pixels", "ms an image", milliseconds, log_x=True, log_y=True, tick_text=side,
                  guide=("in proportion to pixels", x(points[-1]), 1e3 / speed(points[-1], first))),
            chart("peak memory by pixels", "pixels", "peak memory", memory, log_x=True, log_y=True, tick_text=side, y_text=memory_text)], \
        beside(points, "pixels", lambda point: f"{point['image']}x{point['image']}")


def of_photos(points):
    """Time and memory of graft's commands, and whether the memory stays flat."""
    ways = {way: [point for point in points if point["way"] == way] for way in dict.fromkeys(point["way"] for point in points)}
    last = max(points, key=lambda point: (point["photos"], point["seconds"]))
    curves = lambda field: [(way, [(point["photos"], point[field]) for point in found]) for way, found in ways.items()]
    charts = [chart("seconds by photos", "photos", "seconds", curves("seconds"), log_x=True, log_y=True, guide=("in proportion to photos", last["photos"], last["seconds"])),
              chart("peak memory by photos", "photos", "peak memory", curves("peak_bytes"), log_x=True, y_text=memory_text)]
    rows = [[way, f"{point['photos']:,}", f"{point['seconds']:,.1f}", f"{point['cpu_seconds']:,.1f}", f"{point['photos'] / point['seconds']:,.0f}", bytes_text(point["peak_bytes"])] for way, found in ways.items() for point in found]
    said = "".join(f"<p>{verdict_text(verdict)}</p>" for verdict in map(photos.verdict, ways.values()) if verdict)
    return said + beside_each_other(ways, charts) + table(["", "photos", "seconds", "of all threads", "photos/s", "memory"], rows)


def verdict_text(verdict):
    flat = "Flat" if verdict["flat"] else "<strong>Not flat</strong>"
    return f'{flat}: {html.escape(verdict["way"])}, from {verdict["from"]:,} to {verdict["to"]:,} photos {verdict["grown_bytes"] / 1e6:.0f} MB more; what is bounded and lists of photos may take {verdict["allowed_bytes"] / 1e6:.0f} MB.'


# Of each axis a title, how it is drawn, and what a point is called.
AXES = {
    "batch": ("Batch", of_batch, lambda point: f"batch {point['batch']}"),
    "threads": ("Threads", of_threads, lambda point: f"{point['threads']} thread{'s' * (point['threads'] > 1)}"),
    "image": ("Size of the image", of_image, lambda point: f"{point['image']}x{point['image']} pixels"),
}


def not_run(points):
    """A line for each reason, with the points that it holds for."""
    field = {"batch": "batch", "threads": "threads", "image": "size"}
    called = lambda point: f"{point['photos']:,} photos ({point['way']})" if point["axis"] == "photos" else f"{point['axis']} {point[field[point['axis']]]} of {point['model']} ({point['work']})"
    reasons = dict.fromkeys(point["reason"] for point in points)
    return [f'<p class="quiet">Not run, {html.escape(reason)}: {html.escape(", ".join(called(point) for point in points if point["reason"] == reason))}</p>' for reason in reasons]


def page(report):
    parts = head(report, "How cost grows",
                 "Contestants are processes of their own with the same network, weights and input, taking turns; ratios are taken within a round, with a 95 % interval over the rounds. "
                 "Memory is the most that a process ever held, getting ready included. A dashed line is what would grow in proportion.", STYLE + CURVES)
    key = lambda point: (point["model"], point["work"])
    models = list(dict.fromkeys(point["model"] for point in report["points"] if "model" in point))
    order = lambda point: (models.index(point["model"]), list(WORK).index(point["work"]), point["batch"], point["threads"], point["image"])
    for axis, (title, draw, value) in AXES.items():
        found = sorted((point for point in report["points"] if point["axis"] == axis), key=order)
        if not found:
            continue
        parts.append(f"<h2>{title}</h2>")
        for (model, work), points in itertools.groupby(found, key):
            points = list(points)
            charts, numbers = draw(points)
            constant = [text(points[0]) for other, (_, _, text) in AXES.items() if other != axis]
            parts.append(f'<h3>{name_of(model)}, {WORK[work].lower()}, {", ".join(constant)}</h3>{beside_each_other(names_of(points), charts)}{numbers}')
            parts += [left_out(point, f" at {value(point)}") for point in points]
    found = sorted((point for point in report["points"] if point["axis"] == "photos"), key=lambda point: point["photos"])
    if found:
        parts.append(f"<h2>Number of photos</h2>{of_photos(found)}")
    return "\n".join(parts + not_run(report["not_run"])) + "</html>\n"
