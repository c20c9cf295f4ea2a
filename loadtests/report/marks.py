"""What is drawn into a chart for a summary: lines, bands, dots, bars.

What belongs to a service has its colour; its variants differ by the style of their line. A line is the median of the
repetitions, a bar across it their range; a band reaches from p50 to p95, a fainter one to p99.
"""

from typing import Any

from matplotlib.axes import Axes

from report.axes import decades, milliseconds
from report.colours import BAD, COLOURS, PAPER
from report.figures import Summary, number

LINES = ("-", "--", ":", "-.")
MARKS = ("o", "s", "^", "D")


def styles(declared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return how each variant is drawn: in its service's colour, with a line style of its own."""
    seen = {"wsgi": 0, "asgi": 0}
    found = {}
    for name, variant in declared["variants"].items():
        service = variant["service"]
        mark = seen[service] % len(LINES)
        found[name] = {"color": COLOURS[service], "linestyle": LINES[mark], "marker": MARKS[mark], "label": name}
        seen[service] += 1
    return found


def line(axes: Axes, summary: Summary, variant: str, figure: str, style: dict[str, Any]) -> None:
    """Draw a figure's median at each point, with the range of its repetitions."""
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
    """Mark when something failed, and how much."""
    if failed := [(second, many) for second, many in zip(seconds, counts, strict=True) if many]:
        axes.plot(*zip(*failed, strict=True), "x", color=BAD)


def dots(axes: Axes, declared: dict[str, Any], summary: Summary, point: float) -> None:
    """Draw p50, p95 and p99 of each variant at a point, one variant below the other."""
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
    """Draw the CPU time per request, tier by tier, for each variant at a point."""
    names = [variant for variant in declared["variants"] if (variant, point) in summary]
    widest = max((summary[variant, point].median("cpu_us") or 0.0 for variant in names), default=0.0)
    for position, variant in enumerate(names):
        left = 0.0
        service = declared["variants"][variant]["service"]
        for tier in ("haproxy", service):
            if (median := summary[variant, point].median(f"{tier}_us")) is not None:
                axes.barh(position, median, left=left, color=COLOURS[tier], height=0.5)
                if median > 0.08 * widest:  # wide enough for its label
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
    axes.set_title("CPU time per request, us (grey: HAProxy)")
    axes.grid(visible=False, axis="y")
