"""What a run has found: kept in a folder as it comes, read again, summed up, judged.

run.json has the conditions and what the scenarios declare; cells.jsonl a line for each measurement, as cell.py saw it
and with what the tiers used. A report needs nothing else.
"""

import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from histogram import Histogram
from scenario import WORST, Scenario, Threshold

Cell = dict[str, Any]
Summary = dict[tuple[str, float], "Figures"]  # of a scenario: its variants at their points
FORMAT = 2  # of run.json and cells.jsonl; another one cannot be read


@dataclass
class Figures:
    """The figures of one variant at one point: of each its values, by the valid repetitions that have one."""

    values: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    invalid: list[str] = field(default_factory=list)  # of each invalid one the reasons
    cells: list[Cell] = field(default_factory=list)

    def median(self, figure: str) -> float | None:
        """Return the median of the repetitions, or None where there is no valid one."""
        values = self.values.get(figure)
        return statistics.median(values.values()) if values else None

    def judged(self, figure: str) -> float | None:
        """Return what a threshold is compared with: of what failed or was lost the most, of all else the median."""
        spread = self.range(figure)
        return spread[1] if spread and figure in WORST else self.median(figure)

    def range(self, figure: str) -> tuple[float, float] | None:
        """Return the lowest and the highest."""
        values = self.values.get(figure)
        return (min(values.values()), max(values.values())) if values else None

    def ratio(self, figure: str, base: Self | None) -> float | None:
        """Return the median of the ratios to `base` in the same repetitions: each met one state of the machine."""
        ours, theirs = self.values.get(figure, {}), base.values.get(figure, {}) if base else {}
        ratios = [ours[repetition] / theirs[repetition] for repetition in ours.keys() & theirs if theirs[repetition]]
        return statistics.median(ratios) if ratios else None


def figures(cell: Cell, series: str) -> dict[str, float]:
    """Return the figures of a measurement: times of the series whose names begin so, and failures of their kind."""
    times = merged(cell, series)
    kind = series.split()[0]
    failed = failures(cell, kind).total()
    unanswered = cell["generator"]["started"] - count(cell, "GET")
    found = {
        "rate": times.total() / cell["seconds"],
        # Where nothing at all has come, not even a failure, everything has failed.
        "failed": (failed + unanswered) / (unanswered + count(cell, kind)) if times else 1.0,
        **{f"p{share}": times.percentile(share / 100) for share in (50, 95, 99)},
    }
    if outage := merged(cell, "SSE outage", "WS outage"):
        found["outage"] = outage.percentile(0.99)
    if delivery := merged(cell, "SSE delivery", "WS delivery"):
        found["delivery"] = delivery.percentile(0.99)
    if cell["generator"]["wanted"]:
        lost = failures(cell, "SSE lost", "WS lost")
        found["lost"] = sum(int(reason.split()[-1]) * many for reason, many in lost.items()) + cell["overdue"]
        found["disconnects"] = failures(cell, "SSE disconnect", "WS disconnect").total()
        found["reconnects"] = outage.total()
    if requests := count(cell, "GET"):
        for tier, used in cell.get("cpu", {}).items():
            found[f"{tier}_us"] = used / requests * 1e6
        if cell.get("cpu"):
            found["cpu_us"] = sum(cell["cpu"].values()) / requests * 1e6
        found["generator_us"] = cell["generator"]["cpu"] * cell["seconds"] / requests * 1e6
    if held := cell["generator"]["open"]:
        for tier, grown in cell.get("memory", {}).items():
            found[f"{tier}_kib"] = grown / held / 1024
        found["generator_kib"] = cell["generator_bytes"] / held / 1024
    if served := cell.get("served"):
        found["share"] = served.get(cell["slowed"], 0) / max(1, sum(served.values()))
    return found


def merged(cell: Cell, *series: str) -> Histogram:
    """Return the times of all series whose names begin so."""
    return Histogram.merged(seen["times"] for name, seen in cell["series"].items() if name.startswith(series))


def failures(cell: Cell, *series: str) -> Counter[str]:
    """Return the failures of all series whose names begin so, and how often each was seen."""
    return sum((Counter(seen["failed"]) for name, seen in cell["series"].items() if name.startswith(series)), Counter())


def count(cell: Cell, kind: str) -> int:
    """Return how many answers, good and bad, there were to requests of this type."""
    return merged(cell, kind).total() + failures(cell, kind).total()


@dataclass
class Verdict:
    """A threshold, what was measured, and whether that meets it: None where nothing valid was measured."""

    scenario: str
    threshold: str
    measured: str
    met: bool | None


class FormatError(ValueError):
    """The results are of another version."""


class Run:
    """The results of a run, in their folder."""

    def __init__(self, folder: Path, conditions: dict[str, Any], cells: Iterable[Cell] = ()) -> None:
        self.folder, self.conditions, self.cells = folder, conditions, list(cells)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what is in the folder; raise ValueError where that is not a run's."""
        try:
            conditions = json.loads((folder / "run.json").read_text())
            kept = conditions["format"]
            if kept != FORMAT:
                raise FormatError(f"{folder} has results in another format ({kept}) than this version reads ({FORMAT})")
            # A line that a full disk, or a kill, has cut short has no end.
            lines = (folder / "cells.jsonl").read_text().splitlines(keepends=True)
            cells = [json.loads(line) for line in lines if line.endswith("\n")]
            scenarios = conditions["scenarios"]
            for cell in cells:
                scenarios[cell["scenario"]]["variants"][cell["variant"]]
        except FormatError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder} has no results of a run: {type(error).__name__}: {error}") from None
        return cls(folder, conditions, cells)

    def save_conditions(self) -> None:
        """Write run.json; where that fails, what it was stays."""
        draft = self.folder / "run.json.new"
        draft.write_text(json.dumps(self.conditions, indent=1))
        draft.replace(self.folder / "run.json")

    def add(self, cell: Cell) -> None:
        """Keep one more measurement, on disk before anything else."""
        try:
            with (self.folder / "cells.jsonl").open("a") as file:
                file.write(json.dumps(cell) + "\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.folder)) from None
        self.cells.append(cell)

    def summary(self, scenario: str) -> Summary:
        """Return the figures of each variant at each point, in the order of the declaration."""
        declared = self.conditions["scenarios"][scenario]
        found: dict[tuple[str, float], Figures] = defaultdict(Figures)
        for cell in self.cells:
            if cell["scenario"] != scenario or cell.get("tool", "locust") != "locust":
                continue
            kept = found[cell["variant"], cell["point"]]
            if cell["invalid"]:
                kept.invalid.append("; ".join(cell["invalid"]))
                continue
            kept.cells.append(cell)
            for name, value in figures(cell, declared["series"]).items():
                if not math.isnan(value):  # a percentile of nothing
                    kept.values[name][cell["repetition"]] = value
        order = list(declared["variants"])
        return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))

    def verdicts(self) -> list[Verdict]:
        """Judge every threshold of every scenario that was run."""
        judged: list[Verdict] = []
        for name, declared in self.conditions["scenarios"].items():
            summary = self.summary(name)
            if not summary:  # the run ended before
                continue
            thresholds = [Threshold(**kept) for kept in declared["thresholds"]]
            judged += [
                judge(name, one, summary) for one in thresholds if any(concerns(one, where) for where in summary)
            ]
        return judged

    def invalid(self) -> list[Cell]:
        """Return the measurements for which a gate was broken."""
        return [cell for cell in self.cells if cell["invalid"]]


def concerns(threshold: Threshold, where: tuple[str, float]) -> bool:
    """Tell whether the threshold is about this variant at this point."""
    variant, point = where
    return threshold.variant in ("", variant) and threshold.point in (None, point)


def judge(scenario: str, threshold: Threshold, summary: Summary) -> Verdict:
    """Compare the worst that the threshold is about with its limit; where any of it is unknown, nothing is known."""
    concerned = {where: found for where, found in summary.items() if concerns(threshold, where)}
    if threshold.times is None:
        judged = {where: found.judged(threshold.figure) for where, found in concerned.items()}
    else:
        variant, point = threshold.times  # which is a list where it was read again
        base = summary.get((variant, point))
        judged = {where: found.ratio(threshold.figure, base) for where, found in concerned.items()}
    known = {where: value for where, value in judged.items() if value is not None}
    if not known or len(known) < len(judged):
        return Verdict(scenario, str(threshold), f"{len(known)} of {len(judged)} valid", None)
    pick = max if threshold.at_least is None else min
    (variant, point), worst = pick(known.items(), key=lambda item: item[1])
    met = worst <= threshold.at_most if threshold.at_most is not None else worst >= (threshold.at_least or 0)
    where = "" if threshold.variant and threshold.point is not None else f" ({variant} at {point:g})"
    return Verdict(scenario, str(threshold), f"{worst:.3g}{where}", met)


def declare(scenario: Scenario, doc: str, points: dict[str, tuple[float, ...]], *, judged: bool) -> dict[str, Any]:
    """Return what a report has to know of a scenario, as JSON takes it; not `judged`, only failures are."""
    return {
        "doc": doc,
        "question": scenario.question,
        "axis": scenario.axis,
        "series": scenario.series,
        "drawn": scenario.drawn,
        "faults": dict(scenario.faults),
        "slowed": scenario.slowed,
        "variants": {
            name: {
                "service": scenario.variants[name].service,
                "direct": scenario.variants[name].direct,
                "balance": scenario.variants[name].balance,
                "points": at,
                "users": [users.described() for users in scenario.variants[name].users],
            }
            for name, at in points.items()
        },
        "thresholds": [asdict(one) for one in scenario.thresholds if judged or one.figure == "failed"],
    }
