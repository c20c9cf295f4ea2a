"""What the figures are drawn with: colours, scales and marks, as SVG that follows the reader's light or dark.

WSGI is vermilion and ASGI blue throughout (Okabe and Ito's palette, told apart with any colour vision); what belongs to
one service differs by the style of its line. A line is the median of the repetitions, a bar across it their range; a
band reaches from p50 to p95, a fainter one to p99.
"""

import io
import re
import zlib
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from results import Summary

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
    clips = dict.fromkeys(re.findall(r'<clipPath id="(\w+)"', text))  # named by chance; a page holds many figures
    for place, clip in enumerate(clips):
        text = text.replace(clip, f"clip-{zlib.crc32(title.encode()):x}-{place}")
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


def decades(axis: Axis) -> None:
    """Label 1, 10, 100 of a logarithmic axis, and 2, 5, 20, 50 where it spans little: it might have no label at all."""

    def between(value: float, _: object) -> str:
        low, high = axis.get_view_interval()
        return number(value) if high < 50 * low else ""

    axis.set_major_formatter(lambda value, _: number(value))
    axis.set_minor_locator(LogLocator(subs=(2, 5)))
    axis.set_minor_formatter(between)


def milliseconds(axes: Axes) -> None:
    """Make the vertical axis one of times, logarithmic where there are any."""
    axes.margins(y=0.15)
    if axes.dataLim.y1 > 0:
        axes.set_yscale("log")
        decades(axes.yaxis)


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
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xscale("log")
    decades(axes.xaxis)
    axes.set_title("ms: p50 ●, p95 ■, p99 |")
    axes.grid(visible=False, axis="y")


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
