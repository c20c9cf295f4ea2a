"""Results of a run of the load tests that never was."""

import json
from pathlib import Path
from typing import Any

from report.results import FORMAT
from runner.gates import Health

GOOD: Health = {
    "cpu": 0.3,
    "lag_p99_ms": 2,
    "waited": 0.01,
    "offered": 1000,
    "started": 1000,
    "late_p99_ms": 1,
    "wanted": 100,
    "open": 100,
}


def made_up(
    folder: Path,
    *,
    p50: float = 5,
    failed: int = 0,
    answered: bool = True,
    invalid: int = 0,
    partial: str = "",
    size: str = "quick",
    wrk: float = 0,
    drawn: str = "sweep",
) -> Path:
    """Write the results of a run that never was: three repetitions at two points, some of them invalid."""
    folder.mkdir()
    at_16 = {"figure": "p50", "variant": "ASGI", "point": 16}
    thresholds = [
        {"figure": "failed", "at_most": 0},
        at_16 | {"at_most": 10},
        at_16 | {"at_most": 2, "times": ["ASGI", 1]},
    ]
    declared = {
        "doc": "A made-up scenario.",
        "question": "What is <this>?",
        "axis": "clients",
        "series": "GET",
        "drawn": drawn,
        "faults": {},
        "variants": {"WSGI": {"service": "wsgi", "points": [1, 16]}, "ASGI": {"service": "asgi", "points": [1, 16]}},
        "thresholds": thresholds,
    }
    conditions = {
        "format": FORMAT,
        "began": "2026-01-01T00:00:00+00:00",
        "partial": partial,
        "size": size,
        "repetitions": 3,
        "commit": "abc",
        "loaded": "containers",
        "machine": {"cores": 2},
        "scenarios": {"made_up": declared},
    }
    (folder / "run.json").write_text(json.dumps(conditions))
    cells: list[dict[str, Any]] = [
        {
            "scenario": "made_up",
            "variant": variant,
            "point": point,
            "repetition": repetition,
            "seconds": 2,
            "series": {
                "GET /json": {
                    "times": [[p50, 90], [4 * p50, 10]] if answered else [],
                    "failed": {"503": failed} if failed and repetition == 0 else {},
                }
            },
            "generator": GOOD | {"offered": 0, "started": 100 + failed * (repetition == 0), "wanted": 0, "open": 0},
            "generator_bytes": 0,
            "timeline": {"seconds": [0, 1], "p99": [None, None]}
            | {what: [0, 0] for what in ("open", "answered", "ended")}
            | {"failed": [failed, 0]},
            "faults": {},
            "cpu": {"haproxy": 0.01, "wsgi": 0.02, "asgi": 0.02},
            "invalid": ["the generator used 95% of its core", "the generator's event loop lagged by 30 ms"]
            if repetition < invalid and variant == "ASGI"
            else [],
            "tool": "locust",
        }
        for variant in ("WSGI", "ASGI")
        for point in (1, 16)
        for repetition in range(3)
    ]
    if wrk:
        cells.append(cells[-1] | {"series": {}, "tool": "wrk", "rate": wrk})
    (folder / "cells.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in cells))
    return folder
