"""The results of a run: kept in a folder as they come, read again, summed up.

run.json has the conditions and what the scenarios declare; cells.jsonl has a line for each measurement, with what the
generator saw and what the stack used. A report needs nothing else.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from report.figures import Cell, Figures, Summary, figures
from report.verdicts import Verdict, concerns, judge
from runner.scenario import Scenario, Threshold

FORMAT = 2  # of run.json and cells.jsonl; no other can be read


class FormatError(ValueError):
    """The results are in another format."""


class Results:
    """The results of a run, in their folder."""

    def __init__(self, folder: Path, conditions: dict[str, Any], cells: Iterable[Cell] = ()) -> None:
        self.folder, self.conditions, self.cells = folder, conditions, list(cells)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the results in the folder; raise ValueError if it has none."""
        try:
            conditions = json.loads((folder / "run.json").read_text())
            kept = conditions["format"]
            if kept != FORMAT:
                raise FormatError(f"{folder} has results in another format ({kept}) than this version reads ({FORMAT})")
            # A line without an end was cut short, by a full disk or a kill.
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
        """Write run.json; if that fails, the old one stays."""
        draft = self.folder / "run.json.new"
        draft.write_text(json.dumps(self.conditions, indent=1))
        draft.replace(self.folder / "run.json")

    def add(self, cell: Cell) -> None:
        """Add a measurement, on disk first."""
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
                if not math.isnan(value):  # a percentile of no values
                    kept.values[name][cell["repetition"]] = value
        order = list(declared["variants"])
        return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))

    def verdicts(self) -> list[Verdict]:
        """Judge every threshold of every scenario that was run."""
        judged: list[Verdict] = []
        for name, declared in self.conditions["scenarios"].items():
            summary = self.summary(name)
            if not summary:  # the run ended before it
                continue
            thresholds = [Threshold(**kept) for kept in declared["thresholds"]]
            judged += [
                judge(name, one, summary) for one in thresholds if any(concerns(one, where) for where in summary)
            ]
        return judged

    def invalid(self) -> list[Cell]:
        """Return the measurements that broke a gate."""
        return [cell for cell in self.cells if cell["invalid"]]


def declare(scenario: Scenario, doc: str, points: dict[str, tuple[float, ...]], *, judged: bool) -> dict[str, Any]:
    """Return what a report needs of a scenario, ready for JSON; unless `judged`, only the thresholds for failures."""
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
