"""Writes a run's report: one self-contained HTML file, and its charts as files of their own."""

from collections.abc import Iterator
from pathlib import Path

from report import charts
from report.colours import STYLE
from report.cross_check import cross_check
from report.figures import Summary, number
from report.headlines import cost_headline, headline
from report.results import Results
from report.svg import svg
from report.tables import escape, rows, table

PAGE_STYLE = Path(__file__).with_name("page.css")
COST = "throughput.cost"  # a chart that is not a scenario's, whose name has no dot, since it is a module's

SMOKE = "A smoke test: the first point of each scenario, once. It shows that they run; its figures mean little."
LEGEND = (
    "In the figures, a line is the median of the repetitions. An error bar across it is their range, from the lowest "
    "to the highest. A band reaches from p50 to p95, a fainter one to p99."
)
INVALID = " In an INVALID measurement the load generator was the limit, not the stack; it is not drawn or counted."


def write(results: Results) -> Path:
    """Write report.html and the charts beside the results; return the report's path."""
    folder = results.folder / "figures"
    folder.mkdir(exist_ok=True)
    drawn: dict[str, str] = {}
    for name, declared in results.conditions["scenarios"].items():
        summary = {where: found for where, found in results.summary(name).items() if found.cells}
        if not summary:
            continue
        title = headline(declared, summary)
        drawn[name] = svg(charts.CHARTS[declared["drawn"]](declared, summary), title)
        if name == "throughput" and any(found.median("cpu_us") for found in summary.values()):
            drawn[COST] = svg(charts.cost(declared, summary), cost_headline(declared, summary))
    for name, chart in drawn.items():
        (folder / f"{name}.svg").write_text(chart)
    path = results.folder / "report.html"
    path.write_text("\n".join(page(results, drawn)))
    return path


def page(results: Results, drawn: dict[str, str]) -> Iterator[str]:
    """Yield the lines of the HTML."""
    conditions = results.conditions
    yield "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    yield f"<title>Load tests, {conditions['began'][:10]}</title><style>{STYLE}{PAGE_STYLE.read_text()}</style>"
    when, cores = conditions["began"][:16].replace("T", " "), conditions["machine"]["cores"]
    what = f"{when} UTC, commit {conditions['commit']}, {conditions['loaded']}, {cores} cores"
    yield f"<h1>Load tests</h1><p class=quiet>{escape(what)}</p>"
    if conditions["size"] == "smoke":
        yield f"<p class=bad>{SMOKE}</p>"
    if conditions["partial"]:
        yield f"<p class=bad>Partial: {escape(conditions['partial'])}</p>"
    verdicts, invalid = results.verdicts(), results.invalid()
    met = sum(verdict.met is True for verdict in verdicts)
    counts = (
        f"{met} of {len(verdicts)} thresholds met; {len(results.cells)} measurements, {len(invalid)} of them invalid"
    )
    yield f"<p>{counts}.</p><p class=quiet>{LEGEND}{INVALID if invalid else ''}</p>"
    links = {name: name for name in conditions["scenarios"]} | {"run.conditions": "conditions"}
    yield f"<nav>{' '.join(f'<a href=#{anchor}>{name}</a>' for anchor, name in links.items())}</nav>"
    for name, declared in conditions["scenarios"].items():
        summary = results.summary(name)
        yield f"<section id={name}><h2>{escape(declared['question'])}</h2><p class=doc>{escape(declared['doc'])}</p>"
        shown = {where: found for where, found in summary.items() if found.cells}
        if name in drawn:
            yield figure(headline(declared, shown), drawn[name])
        else:
            yield "<p class=bad>Nothing valid was measured.</p>"
        if name == "throughput" and COST in drawn:
            yield figure(cost_headline(declared, shown), drawn[COST])
        for reason in cross_check(results) if name == "throughput" else ():
            yield f"<p>{escape(reason[0].upper() + reason[1:])}.</p>"
        yield from invalid_lines(summary)
        repetitions = f"valid repetitions, of {conditions['repetitions']}"
        yield f"<details><summary>Figures: medians of {repetitions}</summary>"
        yield from table(declared, summary)
        yield "</details></section>"
    yield "<section><h2>Thresholds</h2><div class=wide><table class=text><tr><th>scenario<th>threshold<th>measured<th>"
    for verdict in verdicts:
        word = {True: "met", False: "<span class=bad>missed</span>", None: "<span class=bad>not judged</span>"}[
            verdict.met
        ]
        yield f"<tr><td>{verdict.scenario}<td>{escape(verdict.threshold)}<td>{escape(verdict.measured)}<td>{word}"
    yield "</table></div></section><section id=run.conditions><h2>Conditions</h2><div class=wide><table class=text>"
    yield from rows("", {key: value for key, value in conditions.items() if key not in ("scenarios", "partial")})
    yield "</table></div></section></html>"


def figure(title: str, drawing: str) -> str:
    """Return the HTML of a chart, which a narrow screen scrolls, so that its labels can be read."""
    return f"<figure><figcaption>{escape(title)}</figcaption><div class=wide>{drawing}</div></figure>"


def invalid_lines(summary: Summary) -> Iterator[str]:
    """Yield a line for each variant and point that has invalid measurements."""
    for (variant, point), found in summary.items():
        if found.invalid:
            what = f"{variant} at {number(point)}, {len(found.invalid)} times, for instance: {max(found.invalid)}"
            yield f"<p class=bad>INVALID: {escape(what)}</p>"
