"""What the load tests make of results: figures, verdicts, the report; and what scripts/load refuses."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from handle import ROOT, wait_until
from made_up import GOOD, made_up
from report.figures import Figures, figures
from report.results import Results
from report.verdicts import judge
from runner.scenario import Scenario, Threshold, Variant
from stack import load, python, status


def test_what_held_streams_and_unanswered_requests_cost_is_counted() -> None:
    cell = {
        "seconds": 2,
        "series": {
            "GET /json": {"times": [[5, 90]], "failed": {"503": 8}},
            "SSE delivery": {"times": [[20, 50], [30, 50]], "failed": {}},
            "SSE lost": {"times": [], "failed": {"LostError 3": 2, "LostError 1": 1}},
            "SSE outage": {"times": [[900, 4]], "failed": {}},
            "WS disconnect": {"times": [], "failed": {"EndError the stream ended": 5}},
        },
        "overdue": 1,
        "generator": GOOD | {"started": 100, "wanted": 64, "open": 64, "cpu": 0.49},
        "generator_bytes": 64 * 20 * 1024,
        "memory": {"asgi": 64 * 40 * 1024},
        "cpu": {"haproxy": 0.098, "asgi": 0.196},
        "slowed": "slow",
        "served": {"slow": 10, "other": 30},
    }
    expected = {
        "rate": 45,
        "failed": 0.1,  # eight refused and two unanswered, of a hundred
        "delivery": 30,
        "outage": 900,
        "lost": 8,  # seven left out, one overdue
        "disconnects": 5,
        "reconnects": 4,
        "haproxy_us": 1000,
        "asgi_us": 2000,
        "cpu_us": 3000,
        "generator_us": 10_000,
        "asgi_kib": 40,
        "generator_kib": 20,
        "share": 0.25,
    }
    found = figures(cell, "GET")
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_a_ratio_is_that_of_measurements_of_the_same_repetition() -> None:
    """The medians are 1,000 and 2,000, since the machine was slow once for one of the two and once for both."""
    summary = {
        ("WSGI", 16.0): Figures({"rate": {0: 2000, 1: 1000, 2: 2000}}),
        ("WSGI", 256.0): Figures({"rate": {0: 1000, 1: 1000, 2: 2000}}),
        ("ASGI", 256.0): Figures({"rate": {3: 2000}}),
    }
    for variant, met in (("WSGI", True), ("ASGI", None)):
        threshold = Threshold("rate", at_least=0.8, variant=variant, point=256, times=("WSGI", 16))
        assert judge("throughput", threshold, summary).met is met


def test_a_report_is_drawn_again_from_what_was_kept(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "run", partial="interrupted")
    assert load("--report", folder).returncode == 0
    report = (folder / "report.html").read_text()
    assert "Partial: interrupted" in report
    assert "3 of 3 thresholds met" in report
    assert "What is &lt;this&gt;?" in report
    assert "<svg" in report
    assert "src=" not in report
    assert set(re.findall(r"""href=["']?(.)""", report)) == {"#"}
    figure = (folder / "figures/made_up.svg").read_text()
    assert "prefers-color-scheme" in figure
    assert figure in report


@pytest.mark.parametrize("drawn", ["sweep", "times", "streams", "timeline", "shares", "price"])
def test_a_report_is_drawn_where_nothing_was_answered(tmp_path: Path, drawn: str) -> None:
    folder = made_up(tmp_path / "run", failed=100, answered=False, drawn=drawn)
    done = load("--report", folder)
    assert done.returncode == 0, done.stderr
    assert "up to 100 %" in (folder / "report.html").read_text() or drawn in ("shares", "price")


def test_an_axis_of_times_has_labels_within_a_decade(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "run", p50=1.5, drawn="times")  # to 6 ms
    assert load("--report", folder).returncode == 0
    assert {"2", "5"} <= set(re.findall(r">(\d+)</text>", (folder / "figures/made_up.svg").read_text()))


CROSS_CHECK = """
import pathlib, sys
from report.cross_check import cross_check
from report.results import Results
print(*cross_check(Results.read(pathlib.Path(sys.argv[1]))))
"""


def test_the_difference_to_another_generator_is_told(tmp_path: Path) -> None:
    told = python(CROSS_CHECK, str(made_up(tmp_path / "run", wrk=62.5)))
    assert told == "cross-check of ASGI at 16: Locust 50 responses a second, wrk 62.5, a difference of +20 %\n"


def test_what_is_invalid_is_told_and_never_drawn(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "run", invalid=3)
    assert load("--report", folder).returncode == 0
    report = (folder / "report.html").read_text()
    assert "INVALID: ASGI at 16, 3 times, for instance: the generator used 95% of its core; " in report
    assert "the generator&#x27;s event loop lagged" in report
    summary = Results.read(folder).summary("made_up")
    assert summary["WSGI", 16].median("p50") == 5
    assert summary["ASGI", 16].median("p50") is None
    assert [verdict.met for verdict in Results.read(folder).verdicts()] == [None] * 3


CONCLUDES = """
import locust, pathlib, sys
from report.results import Results
from runner.cli import conclude
print([conclude(Results.read(pathlib.Path(folder))) for folder in sys.argv[1:]])
"""


def test_the_exit_status_says_how_it_went(tmp_path: Path) -> None:
    expected = {
        made_up(tmp_path / "met"): 0,
        made_up(tmp_path / "missed", p50=50): 3,
        made_up(tmp_path / "failed", failed=1): 3,
        made_up(tmp_path / "invalid", invalid=1): 4,
        made_up(tmp_path / "partial", partial="the stack no longer answers"): 1,
    }
    assert json.loads(python(CONCLUDES, *map(str, expected)).splitlines()[-1]) == list(expected.values())


def test_two_runs_are_compared(tmp_path: Path) -> None:
    printed = load("--compare", made_up(tmp_path / "a"), made_up(tmp_path / "b", p50=10)).stdout
    line = next(line for line in printed.splitlines() if "WSGI at 16, p50" in line)
    assert line.split()[-8:] == ["5", "10", "2.00", *["the", "ranges", "do", "not", "overlap"]]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["nonsense"], 2, "no scenario is called nonsense; there are throughput"),
        (["--target", "nonsense"], 2, "--target must be a URL"),
        (["--target", "http://127.0.0.1:1"], 1, "nothing answers at http://127.0.0.1:1"),
        (["--report", "/nowhere"], 2, "/nowhere has no results of a run"),
        (["--compare", "/nowhere", "/nowhere"], 2, "/nowhere has no results of a run"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(arguments: list[str], status: int, says: str) -> None:
    done = load(*arguments)
    assert done.returncode == status
    assert says in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()) <= (2 if status == 2 else 1), "argparse gives the usage first"


def test_another_application_than_the_demonstration_is_not_measured_but_its_missing_endpoints_are_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    before = set((ROOT / "loadtests/results").glob("*"))
    with subprocess.Popen([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]) as other:
        try:
            wait_until(lambda: status(f"http://127.0.0.1:{port}/"), "it answers")
            done = load("--target", f"http://127.0.0.1:{port}", "waiting", "events", "websockets")
        finally:
            other.terminate()
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if "needs /" in line] == [
        "load: waiting needs /wsgi/wait?seconds=0.1, which answers 404",
        "load: waiting needs /asgi/wait?seconds=0.1&mode=async, which answers 404",
        "load: waiting needs /asgi/wait?seconds=0.1&mode=thread, which answers 404",
        "load: waiting needs /asgi/wait?seconds=0.1&mode=blocking, which answers 404",
        "load: events needs /wsgi/events, which answers 404",
        "load: events needs /asgi/events, which answers 404",
        "load: websockets needs /asgi/ws, which answers 404",
    ]
    (line,) = done.stderr.splitlines()
    assert "docs/load-tests.md, Your own application" in line
    assert "### Your own application" in (ROOT / "docs/load-tests.md").read_text()
    assert set((ROOT / "loadtests/results").glob("*")) == before


def test_results_of_another_version_are_refused(tmp_path: Path) -> None:
    kept = made_up(tmp_path / "run") / "run.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"format": 0}))
    done = load("--report", kept.parent)
    assert done.returncode == 2
    assert "another format (0) than this version reads" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_what_there_is_is_listed() -> None:
    listed = [line.split()[0] for line in load("--list").stdout.splitlines()]
    files = {file.stem for file in (ROOT / "loadtests/scenarios").glob("*.py")}
    assert set(listed) == files - {"__init__"}


INTERVALS = """
import locust
from runner import plan
for name, (scenario, _) in plan.scenarios().items():
    if scenario.drawn == "streams":
        for variant in scenario.variants.values():
            for users in variant.users:
                user, _, attributes = users.at(100)
                interval = attributes.get("interval_ms", user.interval_ms)
                print(name, all(plan.seconds(scenario, size) * 1000 > interval for size in plan.REPETITIONS))
"""


def test_held_streams_are_measured_for_longer_than_their_interval() -> None:
    assert python(INTERVALS).splitlines() == ["events True", "events True", "websockets True"]


def test_a_threshold_about_what_is_never_measured_is_refused() -> None:
    for where in ({"variant": "nobody"}, {"point": 3}, {"variant": "ASGI", "times": ("nobody", 100)}):
        with pytest.raises(
            ValueError, match=r"failed of .*: (there is no variant nobody|nothing is not measured at 3)"
        ):
            Scenario(
                1, "?", "", (100,), (100,), {"ASGI": Variant((), "asgi")}, (Threshold("failed", at_most=0, **where),)
            )
    with pytest.raises(ValueError, match="at_most or at_least"):
        Threshold("failed")


def test_a_report_explains_its_figures_and_says_at_its_top_that_it_is_a_smoke_test(tmp_path: Path) -> None:
    for size in ("quick", "smoke"):
        folder = made_up(tmp_path / size, size=size)
        assert load("--report", folder).returncode == 0
        top = (folder / "report.html").read_text().partition("<section")[0]
        assert "error bar across it is their range" in top
        assert ("A smoke test" in top) == (size == "smoke")


@pytest.mark.parametrize("name", ["conditions", "cost", "throughput"])
def test_a_scenario_may_have_the_name_of_a_part_of_the_report(tmp_path: Path, name: str) -> None:
    folder = made_up(tmp_path / "run")
    for kept in ("run.json", "cells.jsonl"):
        (folder / kept).write_text((folder / kept).read_text().replace('"made_up"', f'"{name}"'))
    assert load("--report", folder).returncode == 0
    anchors = re.findall(r"<(?:section|[a-z]+) id=([\w.-]+)", (folder / "report.html").read_text())
    assert name in anchors
    assert len(set(anchors)) == len(anchors)
    assert (folder / f"figures/{name}.svg").exists()
