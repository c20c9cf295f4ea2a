"""Draws what a run has found: one figure a scenario, as SVG that follows the reader's light or dark.

WSGI is vermilion and ASGI blue throughout (Okabe and Ito's palette, told apart with any colour vision); what belongs to
one service differs by the style of its line. A line is the median of the repetitions, a bar across it their range; a
band reaches from p50 to p95, a fainter one to p99.
"""

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from results import Figures

Summary = dict[tuple[str, float], Figures]

# Colours that stand for a CSS variable: matplotlib needs some, and what is written has the variable.
INK, FAINT, WSGI, ASGI, HAPROXY, BAD, PAPER = (f"#0{n}0{n}0{n}" for n in range(1, 8))
VARIABLES = {INK: "ink", FAINT: "faint", WSGI: "wsgi", ASGI: "asgi", HAPROXY: "haproxy", BAD: "bad", PAPER: "paper"}
LIGHT = "--ink:#1c1c1c;--faint:#c9c9c9;--wsgi:#b84900;--asgi:#0068a8;--haproxy:#7a7a7a;--bad:#b3001b;--paper:#fff"
DARK = "--ink:#e8e6e3;--faint:#4a4a4a;--wsgi:#ff9a4d;--asgi:#63b8f0;--haproxy:#9a9a9a;--bad:#ff7b8a;--paper:#16181a"
STYLE = f":root{{{LIGHT}}}@media (prefers-color-scheme:dark){{:root{{{DARK}}}}}@media print{{:root{{{LIGHT}}}}}"
COLOURS = {"wsgi": WSGI, "asgi": ASGI, "haproxy": HAPROXY}
LINES = ("-", "--", ":", "-.")
MARKS = ("o", "s", "^", "D")

mpl.use("svg")
mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "load",
        "font.family": "sans-serif",
        "font.sans-serif": ["system-ui", "Helvetica", "Arial", "DejaVu Sans"],
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.grid": True,
        "axes.facecolor": "none",
        "axes.axisbelow": True,
        "grid.color": FAINT,
        "grid.linewidth": 0.5,
        "lines.linewidth": 1.8,
        "lines.markersize": 5,
        "legend.frameon": False,
        "legend.fontsize": 9,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    }
)


def number(value: float) -> str:
    """Return a figure as it is read: three digits, thousands apart."""
    if value != value:
        return "-"
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def svg(figure: Figure, title: str) -> str:
    """Return the figure as an SVG element that has its own colours and title."""
    figure.patch.set_alpha(0)
    written = io.StringIO()
    figure.savefig(written, format="svg", bbox_inches="tight", pad_inches=0.1, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    text = written.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    label = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
    root = f'<svg role="img" aria-label="{label}" style="background:var(--paper)"'  # a page around it may have another
    return re.sub(r"<svg ([^>]*)>", rf"{root} \1><style>{STYLE}</style>", text, count=1)


def panels(columns: int, rows: int = 1, height: float = 3.1, **options: Any) -> tuple[Figure, Any]:
    """Return a figure with so many panels in its usual width."""
    return plt.subplots(rows, columns, figsize=(10.5, height * rows), layout="constrained", squeeze=False, **options)


def at_points(axes: Axes, values: list[float], label: str) -> None:
    """Put a tick at each point; the scale is logarithmic where the points span much."""
    values = sorted(set(values))
    if values and values[0] > 0 and values[-1] > 8 * values[0]:
        axes.set_xscale("log")
    elif values and values[-1] > 8:
        axes.set_xscale("symlog", linthresh=1, linscale=0.5)
        axes.set_xlim(-0.3, 1.3 * values[-1])
    axes.autoscale_view()
    where = axes.transScale + axes.transLimits  # to shares of the axis
    shown: dict[float, float] = {}  # from the largest on, those that leave room for the others
    for value in reversed(values):
        place = where.transform((value, 1))[0]
        if all(other - place > 0.03 * len(number(right)) for right, other in shown.items()):
            shown[value] = place
    axes.set_xticks(values, [number(value) if value in shown else "" for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def milliseconds(axes: Axes) -> None:
    """Make the vertical axis a logarithmic one of times."""
    axes.set_yscale("log")
    axes.margins(y=0.15)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title("ms")


def styles(declared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return how each variant is drawn: the service's colour, and a line for each of its variants."""
    seen = {"wsgi": 0, "asgi": 0}
    found = {}
    for name, variant in declared["variants"].items():
        service = variant["service"]
        mark = seen[service] % len(LINES)
        found[name] = {"color": COLOURS[service], "linestyle": LINES[mark], "marker": MARKS[mark], "label": name}
        seen[service] += 1
    return found


def line(axes: Axes, summary: Summary, variant: str, figure: str, style: dict[str, Any]) -> None:
    """Draw the medians of a figure at each point, with the range of the repetitions."""
    points = [
        (point, found)
        for (name, point), found in summary.items()
        if name == variant and found.median(figure) is not None
    ]
    if not points:
        return
    medians = [found.median(figure) or 0.0 for _, found in points]
    ranges = [found.range(figure) or (0.0, 0.0) for _, found in points]
    below = [median - low for median, (low, _) in zip(medians, ranges, strict=True)]
    above = [high - median for median, (_, high) in zip(medians, ranges, strict=True)]
    axes.errorbar([point for point, _ in points], medians, yerr=[below, above], capsize=3, elinewidth=1, **style)


def bands(axes: Axes, summary: Summary, variant: str, style: dict[str, Any]) -> None:
    """Draw p50 with bands to p95 and to p99."""
    line(axes, summary, variant, "p50", style)
    points = [
        (point, found)
        for (name, point), found in summary.items()
        if name == variant and found.median("p99") is not None
    ]
    low = [found.median("p50") or 0.0 for _, found in points]
    for share, alpha in (("p95", 0.22), ("p99", 0.12)):
        high = [found.median(share) or 0.0 for _, found in points]
        axes.fill_between([point for point, _ in points], low, high, color=style["color"], alpha=alpha, linewidth=0)


def service_times(axes: Axes, declared: dict[str, Any], summary: Summary, service: str) -> None:
    """Draw the times of a service's variants, p50 with bands, on a logarithmic axis."""
    for variant, style in styles(declared).items():
        if declared["variants"][variant]["service"] == service:
            bands(axes, summary, variant, style)
    milliseconds(axes)
    axes.set_title(f"{service.upper()}: ms (p50, bands to p95 and p99)")


def sweep(declared: dict[str, Any], summary: Summary) -> Figure:
    """Draw answers a second, and their times, over the points."""
    figure, ((rate, *times),) = panels(3, width_ratios=(1.3, 1, 1))
    style = styles(declared)
    points = [point for _, point in summary]
    for variant in style:
        line(rate, summary, variant, "rate", style[variant])
    rate.set_ylim(bottom=0)
    rate.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    rate.set_title("answers a second")
    for axes, service in zip(times, ("wsgi", "asgi"), strict=True):
        service_times(axes, declared, summary, service)
    times[1].sharey(times[0])
    for axes in (rate, *times):
        at_points(axes, points, declared["axis"])
    figure.legend(*rate.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def times(declared: dict[str, Any], summary: Summary) -> Figure:
    """Draw the times of answers over the points."""
    figure, (panel,) = panels(2, sharey=True, height=2.8)
    for axes, service in zip(panel, ("wsgi", "asgi"), strict=True):
        service_times(axes, declared, summary, service)
        at_points(axes, [point for _, point in summary], declared["axis"])
    return figure


def streams(declared: dict[str, Any], summary: Summary) -> Figure:
    """Draw how late things come, what a connection costs, and how many were open while it was measured."""
    figure, ((times, memory, opened),) = panels(3)
    style = styles(declared)
    for variant in style:
        bands(times, summary, variant, style[variant])
    milliseconds(times)
    times.set_title(f"{declared['series']}: ms (p50, bands to p95 and p99)")
    at_points(times, [point for _, point in summary], declared["axis"])
    most = {variant: max((point for name, point in summary if name == variant), default=0) for variant in style}
    largest = max(most, key=lambda variant: most[variant])
    found = summary[largest, most[largest]]
    service = declared["variants"][largest]["service"]
    bars = {
        service.upper(): (f"{service}_kib", COLOURS[service]),
        "HAProxy": ("haproxy_kib", HAPROXY),
        "generator": ("generator_kib", FAINT),
    }
    for label, (name, colour) in bars.items():
        if (median := found.median(name)) is not None:
            memory.bar(label, median, color=colour, width=0.6)
            memory.annotate(number(median), (label, median), ha="center", va="bottom")
    memory.grid(visible=False, axis="x")
    memory.set_title(f"KiB a connection, of {number(most[largest])}")
    for cell in found.cells:
        opened.plot(cell["timeline"]["seconds"], cell["timeline"]["open"], color=COLOURS[service], linewidth=1)
    opened.set_ylim(0, 1.05 * most[largest])
    opened.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    opened.set_title("open, each repetition")
    opened.set_xlabel("seconds")
    if len(style) > 1:
        figure.legend(*times.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def timeline(declared: dict[str, Any], summary: Summary) -> Figure:
    """Draw answers, failures, times and open streams over the time of a fault."""
    figure, grid = panels(len(summary), 3, height=1.7, sharex=True)
    for column, ((variant, _), found) in enumerate(summary.items()):
        answers, times, opened = grid[:, column]
        colour = COLOURS[declared["variants"][variant]["service"]]
        for cell in found.cells:
            seen = cell["timeline"]
            step = seen["seconds"][1] - seen["seconds"][0]
            answers.plot(seen["seconds"], [many / step for many in seen["answered"]], color=colour, linewidth=1)
            crosses(answers, seen["seconds"], [many / step for many in seen["failed"]])
            crosses(opened, seen["seconds"], seen["ended"])
            times.plot(seen["seconds"], seen["p99"], color=colour, linewidth=1)
            opened.plot(seen["seconds"], seen["open"], color=colour, linewidth=1)
        milliseconds(times)
        answers.set_title(f"{variant}: answers a second (x: failures)")
        answers.set_ylim(bottom=0)
        times.set_title(f"{variant}: p99 of each quarter second, ms")
        opened.set_title(f"{variant}: streams open (x: so many ended)")
        opened.set_ylim(bottom=0)
        opened.set_xlabel("seconds")
        for axes in grid[:, column]:
            for fault, second in declared["faults"].items():
                axes.axvline(second, color=INK, linewidth=0.8, linestyle=":")
                if axes is answers:
                    axes.annotate(f" {fault}", (second, 0), xytext=(0, 3), textcoords="offset points", fontsize=9)
    return figure


def crosses(axes: Axes, seconds: list[float], counts: list[float]) -> None:
    """Mark where something failed, and how much."""
    if failed := [(second, many) for second, many in zip(seconds, counts, strict=True) if many]:
        axes.plot(*zip(*failed, strict=True), "x", color=BAD)


def dots(axes: Axes, declared: dict[str, Any], summary: Summary, point: float) -> None:
    """Draw p50, p95 and p99 of each variant at a point, one below the other."""
    names = [variant for variant in declared["variants"] if (variant, point) in summary]
    for position, variant in enumerate(names):
        found = summary[variant, point]
        colour = COLOURS[declared["variants"][variant]["service"]]
        values = [value for share in ("p50", "p95", "p99") if (value := found.median(share)) is not None]
        if len(values) < 3:
            continue
        axes.plot(values, [position] * 3, color=colour, linewidth=1)
        for value, mark in zip(values, ("o", "s", "|"), strict=True):
            axes.plot(value, position, mark, color=colour, markersize=5 if mark != "|" else 11, markeredgewidth=1.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: number(value) if str(value)[0] in "25" else ""))
    axes.set_title("ms: p50 ●, p95 ■, p99 |")
    axes.grid(visible=False, axis="y")


def shares(declared: dict[str, Any], summary: Summary) -> Figure:
    """Draw which share of the requests the slowed replica got, and the times, for each variant."""
    figure, ((share, times),) = panels(2, height=2.4)
    point = max(point for _, point in summary)
    names = [variant for variant in declared["variants"] if (variant, point) in summary]
    for position, variant in enumerate(names):
        if (median := summary[variant, point].median("share")) is not None:
            colour = COLOURS[declared["variants"][variant]["service"]]
            share.barh(position, 100 * median, color=colour, height=0.5)
            share.annotate(f" {100 * median:.0f} %", (100 * median, position), va="center")
    share.set_yticks(range(len(names)), names)
    share.set_ylim(len(names) - 0.4, -0.6)
    share.axvline(100 / 3, color=INK, linewidth=0.8, linestyle=":")
    share.set_title("share of the slowed replica, % (dotted: a third)")
    share.grid(visible=False, axis="y")
    dots(times, declared, summary, point)
    return figure


def tiers(axes: Axes, declared: dict[str, Any], summary: Summary, point: float) -> None:
    """Draw the CPU time of a request, tier by tier, for each variant at a point."""
    names = [variant for variant in declared["variants"] if (variant, point) in summary]
    widest = max((summary[variant, point].median("cpu_us") or 0.0 for variant in names), default=0.0)
    for position, variant in enumerate(names):
        left = 0.0
        service = declared["variants"][variant]["service"]
        for tier in ("haproxy", service):
            if (median := summary[variant, point].median(f"{tier}_us")) is not None:
                axes.barh(position, median, left=left, color=COLOURS[tier], height=0.5)
                if median > 0.08 * widest:  # wide enough for its figure
                    axes.annotate(
                        number(median),
                        (left + median / 2, position),
                        ha="center",
                        va="center",
                        color=PAPER,
                        fontsize=9,
                    )
                left += median
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_title("CPU time of a request, us (grey: HAProxy)")
    axes.grid(visible=False, axis="y")


def middle(summary: Summary) -> float:
    """Return the point in the middle, for figures that show one."""
    points = sorted({point for _, point in summary})
    return points[len(points) // 2]


def price(declared: dict[str, Any], summary: Summary) -> Figure:
    """Draw CPU time and latency of each variant, at the middle point."""
    figure, ((cost, times),) = panels(2, height=2.6)
    point = middle(summary)
    tiers(cost, declared, summary, point)
    dots(times, declared, summary, point)
    return figure


def cost(declared: dict[str, Any], summary: Summary) -> Figure:
    """Draw the CPU time of a request, tier by tier."""
    figure, ((axes,),) = panels(1, height=2.2)
    tiers(axes, declared, summary, middle(summary))
    return figure


DRAWN: dict[str, Callable[[dict[str, Any], Summary], Figure]] = {
    "sweep": sweep,
    "times": times,
    "streams": streams,
    "timeline": timeline,
    "shares": shares,
    "price": price,
}
