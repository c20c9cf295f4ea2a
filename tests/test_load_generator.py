"""The load tests' generator without a stack: histograms, arrivals, gates, and its processes."""

import json
import math
import random
import re
import subprocess
from itertools import islice, pairwise
from pathlib import Path

import pytest

from handle import ROOT
from made_up import GOOD
from runner.gates import broken
from stack import LOAD_PYTHON, python
from users.arrivals import poisson
from users.histogram import Histogram


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


SEEDS = """
from users import clients
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


STALLS = """
import locust, gevent, time
from runner.watch import Watch
watch = Watch()
gevent.sleep(0.5)
end = time.perf_counter() + 0.4
while time.perf_counter() < end:
    pass
gevent.sleep(0.5)
print(watch.stop()["lag_p99_ms"] > 100)
"""


def test_a_stall_of_the_generator_is_seen_by_all_who_would_have_woken_up_meanwhile() -> None:
    assert python(STALLS) == "True\n"


ASKS_TWICE = """
import http.server, threading, time
from users import clients
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


NOBODY_ANSWERS = """
import gevent.monkey; gevent.monkey.patch_all()
import json, socket, subprocess, sys
silent = socket.create_server(("127.0.0.1", 0), backlog=1000)
spec = {"point": 5, "host": "http://127.0.0.1:%d" % silent.getsockname()[1], "seconds": 1, "step": 1.0, "seed": 1,
        "core": None, "memory": False, "addresses": {}, "scenario": sys.argv[1], "variant": sys.argv[2]}
command = [sys.executable, "-m", "runner.generator"]
said = subprocess.run(command, input=json.dumps(spec), capture_output=True, text=True).stdout
seen = next(line for line in map(json.loads, said.splitlines()) if line["event"] == "seen")
from report.figures import figures
print(figures(seen, "GET")["failed"])
"""


@pytest.mark.full
@pytest.mark.parametrize(("scenario", "variant"), [("throughput", "ASGI /json"), ("latency", "ASGI")])
def test_a_service_that_does_not_answer_has_failed(scenario: str, variant: str) -> None:
    assert float(python(NOBODY_ANSWERS, scenario, variant)) == 1


def test_each_measurement_has_a_process_of_its_own() -> None:
    nonsense = json.dumps({"scenario": "nonsense", "core": None, "seed": 1}) + "\n"
    done = subprocess.run(
        [LOAD_PYTHON, "-m", "runner.generator"],
        cwd=ROOT / "loadtests",
        input=2 * nonsense,
        capture_output=True,
        text=True,
        check=True,
    )
    ends = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert ends == 2 * [{"event": "ended", "status": 1}]
    assert done.stdout.count("No module named 'scenarios.nonsense'") == 2


ENDS_AT_ONCE = """
import locust, sys, time
from runner.errors import LoadError
from runner.measurement import Generator
from targets.remote import Remote

class Gone(Remote):
    def generating(self, command):
        return ["sh", "-c", sys.argv[1] + "; exit 1"]

try:
    with Gone("http://127.0.0.1:1").generate("python", "-m", "runner.generator") as process:
        time.sleep(0.5)
        list(Generator(process).measure({"seconds": 1}))
except LoadError as error:
    print(error)
"""


@pytest.mark.parametrize("says", ["no such container", '{"event": "se'])
def test_a_generator_that_ends_says_why(says: str) -> None:
    assert python(ENDS_AT_ONCE, f"printf '{says}'") == f"the generator failed: {says}\n"


def test_locusts_page_offers_what_a_person_would_choose_with_a_sentence_each() -> None:
    offered = picker(ROOT)
    assert 10 <= len(offered) <= 20
    assert all(re.fullmatch(r"(WSGI|ASGI): /\w+(,| past).{10,}", one) for one in offered), offered


def picker(folder: Path) -> list[str]:
    """Return what Locust's page offers, as Locust itself lists it."""
    command = f"{LOAD_PYTHON} -m locust --list"
    done = subprocess.run(command.split(), cwd=folder / "loadtests", capture_output=True, text=True, check=True)
    return [line.strip() for line in done.stdout.splitlines()[1:]]


@pytest.mark.parametrize("name", ["runner", "users", "report", "conditions", "websocket", "random"])
def test_a_scenario_may_have_the_name_of_a_module(copy: Path, name: str) -> None:
    (copy / ".venv").symlink_to(ROOT / ".venv")
    scenarios = copy / "loadtests/scenarios"
    (scenarios / f"{name}.py").write_text((scenarios / "churn.py").read_text())
    listed = subprocess.run(["scripts/load", "--list"], cwd=copy, capture_output=True, text=True, check=True).stdout
    assert f"\n{name} " in listed
    assert picker(copy) == picker(ROOT)
