"""Writes the report of a run: one HTML file that needs nothing else, and its figures as files of their own."""

import html
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import drawing
import figures
from drawing import number
from results import Cell, Figures, Run, Summary

PAGE_STYLE = """
body{margin:0 auto;padding:1.5rem;max-width:64rem;background:var(--paper);color:var(--ink)}
body{font:16px/1.5 system-ui,sans-serif}h1{font-size:1.6rem;margin:0}h2{font-size:1.2rem;margin:2.5rem 0 0}
p{margin:.3rem 0}svg{width:100%;height:auto;display:block}
figure{margin:.5rem 0}figcaption{margin:.3rem 0}.doc,.quiet{color:color-mix(in srgb,var(--ink) 70%,var(--paper))}
table{border-collapse:collapse;font-size:.85rem;margin:.5rem 0}
th,td{text-align:right;padding:.15rem .6rem;border-bottom:1px solid var(--faint)}
th:first-child,td:first-child{text-align:left}.text td,.text th{text-align:left}.bad{color:var(--bad);font-weight:600}
div.wide{overflow-x:auto}summary{cursor:pointer}nav a{margin-right:.8rem}a{color:inherit}
@media print{body{max-width:none;padding:0}section{break-inside:avoid}nav{display:none}
details::details-content{content-visibility:visible;height:auto}table{font-size:.62rem}th,td{padding:.1rem .3rem}}
"""
COLUMNS = {  # of the tables: a figure, its heading
    "rate": "a second",
    "p50": "p50 ms",
    "p95": "p95 ms",
    "p99": "p99 ms",
    "failed": "failed %",
    "delivery": "events late p99 ms",
    "lost": "events lost",
    "disconnects": "disconnects",
    "reconnects": "reconnects",
    "outage": "outage p99 ms",
    "haproxy_us": "HAProxy us",
    "wsgi_us": "WSGI us",
    "asgi_us": "ASGI us",
    "generator_us": "generator us",
    "haproxy_kib": "HAProxy KiB",
    "wsgi_kib": "WSGI KiB",
    "asgi_kib": "ASGI KiB",
    "generator_kib": "generator KiB",
    "share": "share of the slowed %",
}
PERCENT = ("failed", "share")


def write(results: Run) -> Path:
    """Write report.html and the figures beside the results; return the report's path."""
    folder = results.folder / "figures"
    folder.mkdir(exist_ok=True)
    drawn: dict[str, str] = {}
    for name, declared in results.conditions["scenarios"].items():
        summary = {where: found for where, found in results.summary(name).items() if found.cells}
        if not summary:
            continue
        title = headline(declared, summary)
        drawn[name] = drawing.svg(figures.DRAWN[declared["drawn"]](declared, summary), title)
        if name == "throughput" and any(found.median("cpu_us") for found in summary.values()):
            drawn["cost"] = drawing.svg(figures.cost(declared, summary), cost_headline(declared, summary))
    for name, svg in drawn.items():
        (folder / f"{name}.svg").write_text(svg)
    path = results.folder / "report.html"
    path.write_text("\n".join(page(results, drawn)))
    return path


def headline(declared: dict[str, Any], summary: Summary) -> str:
    """Say in a sentence what the figure shows."""
    last = {variant: max(point for name, point in summary if name == variant) for variant, _ in summary}
    if declared["drawn"] == "price":
        last = {variant: point for variant, point in summary if point == figures.middle(summary)}
    parts = []
    for variant, point in last.items():
        found = summary[variant, point]
        rate, p50, p99 = (number(found.judged(figure) or math.nan) for figure in ("rate", "p50", "p99"))
        failed = found.judged("failed") or 0.0
        lost = f"up to {number(100 * failed)} %" if failed else "0 %"  # in the worst repetition
        trouble = f", {lost} failed" if failed else ""
        if declared["drawn"] == "shares":
            parts.append(f"{variant}: {100 * (found.median('share') or 0):.0f} % to the slow replica, p99 {p99} ms")
        elif declared["drawn"] == "streams":
            parts.append(f"{variant}: {number(point)} held, p99 {p99} ms{trouble}")
        elif declared["drawn"] == "timeline":
            back = f", streams back in {number(outage)} ms (p99)" if (outage := found.median("outage")) else ""
            parts.append(f"{variant}: {lost} of the requests failed, p99 {p99} ms{back}")
        elif declared["drawn"] == "price":
            parts.append(f"{variant}: {number(found.median('cpu_us') or 0)} us, p50 {p50} ms")
        else:
            parts.append(f"{variant}: {rate} a second, p99 {p99} ms{trouble}")
    where = (
        ""
        if declared["drawn"] in ("timeline", "streams")
        else f" (at {', '.join(sorted({number(point) for point in last.values()}))} {declared['axis']})"
    )
    return "; ".join(parts) + where


def cost_headline(declared: dict[str, Any], summary: Summary) -> str:
    """Say what the figure of the tiers' CPU time shows."""
    return f"Where the CPU time of a request goes (at {number(figures.middle(summary))} {declared['axis']})"


def page(results: Run, drawn: dict[str, str]) -> Iterator[str]:
    """Yield the lines of the report."""
    conditions = results.conditions
    yield "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    yield f"<title>Load tests, {conditions['began'][:10]}</title><style>{drawing.STYLE}{PAGE_STYLE}</style>"
    when, cores = conditions["began"][:16].replace("T", " "), conditions["machine"]["cores"]
    what = f"{when} UTC, commit {conditions['commit']}, {conditions['loaded']}, {cores} cores"
    yield f"<h1>Load tests</h1><p class=quiet>{escape(what)}</p>"
    if conditions["partial"]:
        yield f"<p class=bad>Partial: {escape(conditions['partial'])}</p>"
    verdicts, invalid = results.verdicts(), results.invalid()
    met = sum(verdict.met is True for verdict in verdicts)
    counts = (
        f"{met} of {len(verdicts)} thresholds met; {len(results.cells)} measurements, {len(invalid)} of them invalid"
    )
    yield f"<p>{counts}.</p>"
    yield (
        "<nav>"
        + "".join(f"<a href='#{name}'>{name}</a>" for name in conditions["scenarios"])
        + "<a href=#conditions>conditions</a></nav>"
    )
    for name, declared in conditions["scenarios"].items():
        summary = results.summary(name)
        yield f"<section id={name}><h2>{escape(declared['question'])}</h2><p class=doc>{escape(declared['doc'])}</p>"
        shown = {where: found for where, found in summary.items() if found.cells}
        if name in drawn:
            yield f"<figure><figcaption>{escape(headline(declared, shown))}</figcaption>{drawn[name]}</figure>"
        else:
            yield "<p class=bad>Nothing valid was measured.</p>"
        if name == "throughput" and "cost" in drawn:
            yield f"<figure><figcaption>{escape(cost_headline(declared, shown))}</figcaption>{drawn['cost']}</figure>"
        for reason in cross_check(results) if name == "throughput" else ():
            yield f"<p>{escape(reason[0].upper() + reason[1:])}.</p>"
        yield from invalid_lines(summary)
        repetitions = f"the valid ones of {conditions['repetitions']} repetitions"
        yield f"<details><summary>Figures: medians of {repetitions}</summary>"
        yield from table(declared, summary)
        yield "</details></section>"
    yield "<section><h2>Thresholds</h2><table class=text><tr><th>scenario<th>threshold<th>measured<th>"
    for verdict in verdicts:
        word = {True: "met", False: "<span class=bad>missed</span>", None: "<span class=bad>not judged</span>"}[
            verdict.met
        ]
        yield f"<tr><td>{verdict.scenario}<td>{escape(verdict.threshold)}<td>{escape(verdict.measured)}<td>{word}"
    yield "</table></section><section id=conditions><h2>Conditions</h2><table class=text>"
    yield from rows("", {key: value for key, value in conditions.items() if key not in ("scenarios", "partial")})
    yield "</table></section></html>"


def escape(text: object) -> str:
    """Return text as HTML has it."""
    return html.escape(str(text))


def rows(prefix: str, values: dict[str, Any]) -> Iterator[str]:
    """Yield a row for each value, and for each in it."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from rows(f"{prefix}{key} ", value)
        else:
            yield f"<tr><td>{escape(prefix + key)}<td>{escape('all' if value is None else value)}"


def invalid_lines(summary: Summary) -> Iterator[str]:
    """Yield a line for each variant and point that has invalid measurements."""
    for (variant, point), found in summary.items():
        if found.invalid:
            what = f"{variant} at {number(point)}, {len(found.invalid)} times, for instance: {max(found.invalid)}"
            yield f"<p class=bad>INVALID: {escape(what)}</p>"


def table(declared: dict[str, Any], summary: Summary) -> Iterator[str]:
    """Yield the table of a scenario: the median, and the range below it."""
    shown = [name for name in COLUMNS if any(found.median(name) is not None for found in summary.values())]
    yield f"<div class=wide><table><tr><th>variant<th>{escape(declared['axis'])}" + "".join(
        f"<th>{COLUMNS[name]}" for name in shown
    )
    for (variant, point), found in summary.items():
        yield f"<tr><td>{escape(variant)}<td>{number(point)}" + "".join(f"<td>{value(found, name)}" for name in shown)
    yield "</table></div>"


def value(found: Figures, name: str) -> str:
    """Return the median of a figure with its range, or a dash."""
    median, spread = found.median(name), found.range(name)
    if median is None or spread is None:
        return "-"
    factor = 100 if name in PERCENT else 1
    low, high = (number(end * factor) for end in spread)
    return f"{number(median * factor)}<br><span class=quiet>{low} to {high}</span>"


def cross_check(results: Run) -> list[str]:
    """Compare Locust's rate with the other generator's, where one has measured the same."""
    found: dict[tuple[str, str, float], list[Cell]] = defaultdict(list)
    for cell in results.cells:
        if cell["tool"] == "wrk":
            found[cell["scenario"], cell["variant"], cell["point"]].append(cell)
    lines = []
    for (scenario, variant, point), cells in found.items():
        for cell in cells:
            lines += [f"cross-check of {variant} at {point:g} is invalid: {reason}" for reason in cell["invalid"]]
        rates = [cell["rate"] for cell in cells if not cell["invalid"]]
        ours = results.summary(scenario).get((variant, point))  # none where the run was interrupted before
        if rates and ours and (rate := ours.median("rate")):
            theirs = statistics.median(rates)
            lines.append(
                f"cross-check of {variant} at {point:g}: Locust {number(rate)} answers a second, wrk {number(theirs)}, "
                f"a difference of {100 * (theirs - rate) / theirs:+.0f} %"
            )
    return lines


COMPARED = ("rate", "failed", "p50", "p99", "lost", "outage", "cpu_us")
ALIKE = ("partial", "size", "seed", "loaded", "generator_core", "machine", "software")  # conditions


def compare(first: Run, second: Run) -> str:
    """Return what differs in the conditions, and a table of how the second run's medians are to the first's."""
    lines = []
    for name in ALIKE:
        one, other = first.conditions.get(name), second.conditions.get(name)
        if one != other:
            lines.append(f"{name} differs: {one or '-'} and {other or '-'}")
    lines.append(f"{'':58} {'first':>10} {'second':>10} {'ratio':>6}")
    for scenario in dict.fromkeys([*first.conditions["scenarios"], *second.conditions["scenarios"]]):
        before, after = (
            run.summary(scenario) if scenario in run.conditions["scenarios"] else {} for run in (first, second)
        )
        for where in dict.fromkeys([*before, *after]):
            for figure in COMPARED:
                ends = [run[where].range(figure) if where in run else None for run in (before, after)]
                medians = [run[where].median(figure) if where in run else None for run in (before, after)]
                if not any(medians):  # 0 or unknown in both
                    continue
                one, other = (math.nan if median is None else median for median in medians)
                name = f"{scenario}: {where[0]} at {where[1]:g}, {figure}"
                ratio = f"{other / one:6.2f}" if one else f"{'-':>6}"
                lines.append(f"{name:58} {number(one):>10} {number(other):>10} {ratio}{apart(*ends)}")
    return "\n".join(lines)


def apart(first: tuple[float, float] | None, second: tuple[float, float] | None) -> str:
    """Return a note where two ranges of repetitions do not meet, or one is unknown."""
    if first is None or second is None:
        return f"  nothing valid in the {'first' if first is None else 'second'}"
    return "" if first[0] <= second[1] and second[0] <= first[1] else "  the ranges do not meet"
