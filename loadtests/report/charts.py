"""The charts, one for each scenario."""

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

from report.axes import at_points, milliseconds
from report.colours import COLOURS, FAINT, HAPROXY, INK
from report.figures import Summary, middle, number
from report.marks import bands, crosses, dots, line, service_times, styles, tiers
from report.svg import panels


def sweep(declared: dict[str, Any], summary: Summary) -> Figure:
    """Draw responses a second, and their times, over the points."""
    figure, ((rate, *times),) = panels(3, width_ratios=(1.3, 1, 1))
    style = styles(declared)
    points = [point for _, point in summary]
    for variant in style:
        line(rate, summary, variant, "rate", style[variant])
    rate.set_ylim(bottom=0)
    rate.yaxis.set_major_formatter(lambda value, _: number(value))
    rate.set_title("responses a second")
    for axes, service in zip(times, ("wsgi", "asgi"), strict=True):
        service_times(axes, declared, summary, service)
    times[1].sharey(times[0])
    for axes in (rate, *times):
        at_points(axes, points, declared["axis"])
    figure.legend(*rate.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def times(declared: dict[str, Any], summary: Summary) -> Figure:
    """Draw response times over the points."""
    figure, (panel,) = panels(2, sharey=True, height=2.8)
    for axes, service in zip(panel, ("wsgi", "asgi"), strict=True):
        service_times(axes, declared, summary, service)
        at_points(axes, [point for _, point in summary], declared["axis"])
    return figure


def streams(declared: dict[str, Any], summary: Summary) -> Figure:
    """Draw how late events or echoes come, what a connection costs, and how many were open meanwhile."""
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
    memory.set_title(f"KiB per connection, of {number(most[largest])}")
    for cell in found.cells:
        opened.plot(cell["timeline"]["seconds"], cell["timeline"]["open"], color=COLOURS[service], linewidth=1)
    opened.set_ylim(0, 1.05 * most[largest])
    opened.yaxis.set_major_formatter(lambda value, _: number(value))
    opened.set_title("open, in each repetition")
    opened.set_xlabel("seconds")
    if len(style) > 1:
        figure.legend(*times.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def timeline(declared: dict[str, Any], summary: Summary) -> Figure:
    """Draw responses, failures, times and open streams over time, with the faults."""
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
        answers.set_title(f"{variant}: responses a second (x: failures)")
        answers.set_ylim(bottom=0)
        times.set_title(f"{variant}: p99 of each quarter second, ms")
        opened.set_title(f"{variant}: open streams (x: how many ended)")
        opened.set_ylim(bottom=0)
        opened.set_xlabel("seconds")
        for axes in grid[:, column]:
            for fault, second in found.cells[0]["faults"].items():
                axes.axvline(second, color=INK, linewidth=0.8, linestyle=":")
                if axes is answers:
                    axes.annotate(f" {fault}", (second, 0), xytext=(0, 3), textcoords="offset points", fontsize=9)
    return figure


def shares(declared: dict[str, Any], summary: Summary) -> Figure:
    """Draw the slowed replica's share of requests, and the times, for each variant."""
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
    share.set_title("the slowed replica's share, % (dotted: a third)")
    share.grid(visible=False, axis="y")
    dots(times, declared, summary, point)
    return figure


def price(declared: dict[str, Any], summary: Summary) -> Figure:
    """Draw CPU time and latency of each variant, at the middle point."""
    figure, ((cost, times),) = panels(2, height=2.6)
    point = middle(summary)
    tiers(cost, declared, summary, point)
    dots(times, declared, summary, point)
    return figure


def cost(declared: dict[str, Any], summary: Summary) -> Figure:
    """Draw the CPU time per request, tier by tier."""
    figure, ((axes,),) = panels(1, height=2.2)
    tiers(axes, declared, summary, middle(summary))
    return figure


CHARTS: dict[str, Callable[[dict[str, Any], Summary], Figure]] = {
    "sweep": sweep,
    "times": times,
    "streams": streams,
    "timeline": timeline,
    "shares": shares,
    "price": price,
}
