"""The load tests without a stack: what their figures rest on, how they are judged and drawn, what is refused."""

import json
import math
import random
import re
import subprocess
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from arrivals import poisson
from gates import Generator, broken
from histogram import Histogram
from results import FORMAT, Figures, Run, figures, judge
from scenario import Scenario, Threshold, Variant
from stack import ROOT, load, run

PYTHON = ROOT / ".venv/load/bin/python"
GOOD: Generator = {
    "cpu": 0.3,
    "lag_p99_ms": 2,
    "waited": 0.01,
    "offered": 1000,
    "started": 1000,
    "late_p99_ms": 1,
    "wanted": 100,
    "open": 100,
}


def test_histograms_add_up_to_what_one_would_have_counted() -> None:
    chance = random.Random(1)
    values = [chance.lognormvariate(2, 2) for _ in range(5000)]
    parts, whole = [Histogram() for _ in range(3)], Histogram()
    for number, value in enumerate(values):
        parts[number % 3].record(value)
        whole.record(value)
    merged = Histogram.merged(json.loads(json.dumps(part.pairs())) for part in parts)
    assert merged == whole
    assert merged.total() == 5000
    values.sort()
    for share in (0.5, 0.95, 0.99, 1.0):
        assert merged.percentile(share) == pytest.approx(values[math.ceil(share * 5000) - 1], rel=0.005)


def test_a_histogram_of_nothing_has_no_percentile() -> None:
    assert math.isnan(Histogram().percentile(0.5))
    zero = Histogram()
    zero.record(0)
    assert zero.percentile(0.99) == 0


def test_arrivals_come_at_the_rate_and_at_random() -> None:
    times = list(islice(poisson(200, 7, "a"), 20_000))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert times[0] > 7
    assert mean == pytest.approx(1 / 200, rel=0.03)
    assert spread == pytest.approx(mean, rel=0.05)  # the mark of an exponential distribution
    assert times == list(islice(poisson(200, 7, "a"), 20_000))
    assert times != list(islice(poisson(200, 7, "b"), 20_000))
    with pytest.raises(ValueError, match="above 0"):
        next(poisson(0, 0, 1))


@pytest.mark.parametrize(
    ("gate", "bad", "says"),
    [
        ("cpu", 0.9, "90% of its core"),
        ("lag_p99_ms", 35, "lagged by 35 ms"),
        ("waited", 0.2, "waited for its core 20%"),
        ("started", 990, "dropped 1.0% of the arrivals"),
        ("late_p99_ms", 40, "40 ms late"),
        ("open", 98, "98 of 100 connections"),
    ],
)
def test_each_gate_closes_on_a_bad_generator(gate: str, bad: float, says: str) -> None:
    assert broken(GOOD) == []
    (reason,) = broken(GOOD | {gate: bad})  # type: ignore[arg-type]
    assert says in reason


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


def made_up(
    folder: Path,
    *,
    p50: float = 5,
    failed: int = 0,
    answered: bool = True,
    invalid: int = 0,
    partial: str = "",
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
            "invalid": ["the generator used 95% of its core", "its loop lagged by 30 ms"]
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


def test_the_difference_to_another_generator_is_told(tmp_path: Path) -> None:
    code = "import sys, report as r, run, pathlib as p; print(*r.cross_check(run.Run.read(p.Path(sys.argv[1]))))"
    told = python(code, str(made_up(tmp_path / "run", wrk=62.5)))
    assert told == "cross-check of ASGI at 16: Locust 50 answers a second, wrk 62.5, a difference of +20 %\n"


def test_what_is_invalid_is_told_and_never_drawn(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "run", invalid=3)
    assert load("--report", folder).returncode == 0
    report = (folder / "report.html").read_text()
    assert "INVALID: ASGI at 16, 3 times, for instance: the generator used 95% of its core; its loop lagged" in report
    summary = Run.read(folder).summary("made_up")
    assert summary["WSGI", 16].median("p50") == 5
    assert summary["ASGI", 16].median("p50") is None
    assert [verdict.met for verdict in Run.read(folder).verdicts()] == [None] * 3


def test_the_exit_status_says_how_it_went(tmp_path: Path) -> None:
    expected = {
        made_up(tmp_path / "met"): 0,
        made_up(tmp_path / "missed", p50=50): 3,
        made_up(tmp_path / "failed", failed=1): 3,
        made_up(tmp_path / "invalid", invalid=1): 4,
        made_up(tmp_path / "partial", partial="the stack no longer answers"): 1,
    }
    code = "import sys, run, pathlib as p; print([run.conclude(run.Run.read(p.Path(a))) for a in sys.argv[1:]])"
    assert json.loads(python(code, *map(str, expected)).splitlines()[-1]) == list(expected.values())


def python(code: str, *arguments: str) -> str:
    """Return what the code prints in the load tests' environment."""
    return run(str(PYTHON), "-c", code, *arguments, env={"PYTHONPATH": str(ROOT / "loadtests")}).stdout


ASKS_TWICE = """
import clients, http.server, threading, time
from locust.env import Environment

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, timeout = "HTTP/1.1", 1.6  # it closes a connection on which nothing comes for so long

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
environment = Environment()
environment.events.request.add_listener(lambda exception, **_: print(exception))
user = clients.Client(environment)
user.host = f"http://127.0.0.1:{server.server_port}"
user.on_start()
user.get()
time.sleep(1.8)
user.get()
"""


def test_a_connection_that_was_idle_for_long_is_not_used_again() -> None:
    """A server may have closed it, and what is sent then fails through nobody's fault but the generator's."""
    assert python(ASKS_TWICE).split() == ["None", "None"]


def test_two_runs_are_compared(tmp_path: Path) -> None:
    printed = load("--compare", made_up(tmp_path / "a"), made_up(tmp_path / "b", p50=10)).stdout
    line = next(line for line in printed.splitlines() if "WSGI at 16, p50" in line)
    assert line.split()[-8:] == ["5", "10", "2.00", *["the", "ranges", "do", "not", "meet"]]


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


def test_results_of_another_version_are_refused(tmp_path: Path) -> None:
    kept = made_up(tmp_path / "run") / "run.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"format": 0}))
    done = load("--report", kept.parent)
    assert done.returncode == 2
    assert "another format (0) than this version reads" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_what_there_is_is_listed() -> None:
    listed = load("--list").stdout
    for file in (ROOT / "loadtests/scenarios").glob("*.py"):
        assert f"\n{file.stem} " in f"\n{listed}"


def test_each_measurement_has_a_process_of_its_own() -> None:
    nonsense = json.dumps({"scenario": "nonsense", "core": None, "seed": 1}) + "\n"
    done = subprocess.run(
        [PYTHON, ROOT / "loadtests/cell.py"], input=2 * nonsense, capture_output=True, text=True, check=True
    )
    ends = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert ends == 2 * [{"event": "ended", "status": 1}]
    assert done.stdout.count("No module named 'nonsense'") == 2


STALLS = """
import locust, cell, gevent, time
watch = cell.Watch()
gevent.sleep(0.5)
end = time.perf_counter() + 0.4
while time.perf_counter() < end:
    pass
gevent.sleep(0.5)
print(watch.stop()["lag_p99_ms"] > 100)
"""


def test_a_stall_of_the_generator_is_seen_by_all_who_would_have_woken_up_meanwhile() -> None:
    assert python(STALLS) == "True\n"


NOBODY_ANSWERS = """
import gevent.monkey; gevent.monkey.patch_all()
import json, socket, subprocess, sys
silent = socket.create_server(("127.0.0.1", 0), backlog=1000)
spec = {"point": 5, "host": "http://127.0.0.1:%d" % silent.getsockname()[1], "seconds": 1, "step": 1.0, "seed": 1,
        "core": None, "memory": False, "scenario": sys.argv[1], "variant": sys.argv[2]}
said = subprocess.run([sys.executable, sys.argv[3]], input=json.dumps(spec), capture_output=True, text=True).stdout
seen = next(line for line in map(json.loads, said.splitlines()) if line["event"] == "seen")
from results import figures
print(figures(seen, "GET")["failed"])
"""


@pytest.mark.full
@pytest.mark.parametrize(("scenario", "variant"), [("throughput", "ASGI /json"), ("latency", "ASGI")])
def test_a_service_that_does_not_answer_has_failed(scenario: str, variant: str) -> None:
    assert float(python(NOBODY_ANSWERS, scenario, variant, str(ROOT / "loadtests/cell.py"))) == 1


INTERVALS = """
import locust, plan
for name, (scenario, _) in plan.scenarios().items():
    if scenario.drawn == "streams":
        for variant in scenario.variants.values():
            for users in variant.users:
                user, _, attributes = users.at(100)
                interval = attributes.get("interval_ms", user.interval_ms)
                print(name, all(plan.seconds(scenario, size) * 1000 > interval for size in plan.REPETITIONS))
"""


SEEDS = """
import clients
from locust.env import Environment
clients.poisson = lambda rate, start, seed: print(seed) or ()
for seed in ("", "7"):
    user = type("Crowd", (clients.Open,), {"seed": seed, "host": "http://127.0.0.1:1"})(Environment())
    user.on_start()
    user.arrive()
"""


def test_arrivals_are_alike_only_where_a_seed_asks_for_it() -> None:
    """On Locust's page each worker has a user of number 0: theirs must not arrive together."""
    assert python(SEEDS) == "None\n7-1\n"


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


ENDS_AT_ONCE = """
import locust, deployment, measurement, sys, time

class Gone(deployment.Elsewhere):
    def within(self, command):
        return ["sh", "-c", sys.argv[1] + "; exit 1"]

try:
    with Gone("http://127.0.0.1:1").generate("python", "cell.py") as process:
        time.sleep(0.5)
        list(measurement.Generator(process).measure({"seconds": 1}))
except deployment.LoadError as error:
    print(error)
"""


@pytest.mark.parametrize("says", ["no such container", '{"event": "se'])
def test_a_generator_that_ends_says_why(says: str) -> None:
    assert python(ENDS_AT_ONCE, f"printf '{says}'") == f"the generator failed: {says}\n"
