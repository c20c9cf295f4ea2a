"""The load generator: makes each measurement in a Locust process of its own.

USAGE: python -m runner.generator    in loadtests/; run by the runner, which writes a line for each measurement, a JSON
                                     object (see `measure`), or for a question (see `answer`)

Prints a line of JSON when it is ready to load, when the measuring window begins and ends, with what was measured or
answered, and when the process has ended.
"""

import os

os.environ["GEVENT_RESOLVER"] = "block"  # lookups in threads would compete for the core; there is one per process

import gc
import importlib
import json
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import gevent
import gevent.monkey
import locust
import psutil
from locust.env import Environment

from runner.endpoints import missing
from runner.gates import OPEN
from runner.recorder import Recorder
from runner.scenario import Scenario
from runner.watch import Watch
from users.addresses import at
from users.clients import Closed
from users.gauges import GAUGES
from users.streams import OPENED_A_SECOND, Stream

WARM_UP_SECONDS = (0.5, 5.0)  # until every closed-loop user has its first response: at least, at most
OPEN_SECONDS = 60.0  # how long connections may take to open
LAST_RESPONSES_SECONDS = 15.0  # how long requests of the window may take after it, and then those sent later


def anonymous_memory() -> int:
    """Return the bytes of this process's memory that back no file: a forked process maps libraries anew."""
    used = psutil.Process().memory_info()
    return int(used.rss - getattr(used, "shared", 0))


def say(**line: Any) -> None:
    """Tell the runner."""
    print(json.dumps(line), flush=True)


def wait_while(holds: Callable[[], bool], seconds: float) -> None:
    """Return when it no longer holds, or after this many seconds."""
    patience = time.perf_counter() + seconds
    while holds() and time.perf_counter() < patience:
        gevent.sleep(0.05)


def prepare(spec: dict[str, Any]) -> Iterator[tuple[type, int]]:
    """Yield the variant's user classes, with the attributes for this measurement, and how many of each."""
    scenario: Scenario = importlib.import_module(f"scenarios.{spec['scenario']}").SCENARIO
    for number, users in enumerate(scenario.variants[spec["variant"]].users):
        user, count, attributes = users.at(spec["point"])
        attributes["path"] = at(user.path, spec["addresses"])  # type: ignore[attr-defined]
        attributes |= {"host": spec["host"], "seed": f"{spec['seed']}-{number}", "fixed_count": count}
        if issubclass(user, Stream):
            attributes["ramp_seconds"] = max(1.0, count / OPENED_A_SECOND)
        if count:
            yield type(user.__name__, (user,), attributes), count


def measure(spec: dict[str, Any]) -> NoReturn:
    """Load, wait until all streams are open, warm up, record for as long as asked, tell the runner, and end.

    Requests count by when they were due, and the load goes on until those of the window are answered. Then it stops
    and waits for the rest, so that the next measurement finds an idle stack.

    The specification: `scenario`, `variant`, `point`, `host` (a URL, or several with commas), `addresses` (where the
    services are, see users/addresses.py), `seconds`, `step` (of the timeline, seconds), `seed`, `core` (to run on, or
    null), and `memory` (whether the runner reads the stack's memory after the window: the generator then waits for a
    line from it).
    """
    if spec["core"] is not None:
        os.sched_setaffinity(0, {spec["core"]})
    random.seed(spec["seed"])
    classes = dict(prepare(spec))
    wanted = sum(count for user, count in classes.items() if issubclass(user, Stream))
    closed = sum(count for user, count in classes.items() if issubclass(user, Closed))
    environment = Environment(user_classes=list(classes), events=locust.events)
    runner = environment.create_local_runner()
    recorder = Recorder(spec["step"])
    environment.events.request.add_listener(recorder)  # type: ignore[no-untyped-call]
    memory = anonymous_memory()
    say(event="ready")

    total = sum(classes.values())
    runner.start(total, spawn_rate=max(100, total))
    wait_while(lambda: GAUGES.open < OPEN * wanted, OPEN_SECONDS)
    gc.collect()
    gc.disable()  # a collection visits every connection and stalls the loop meanwhile
    shortest, longest = WARM_UP_SECONDS
    gevent.sleep(shortest)
    wait_while(lambda: GAUGES.answered < closed, longest - shortest)

    held, opened = GAUGES.open, []
    watch = Watch()
    began = time.time()
    recorder.begin = GAUGES.begin = time.perf_counter()
    recorder.end = GAUGES.end = recorder.begin + spec["seconds"]
    say(event="begin")
    while time.perf_counter() < recorder.end:
        opened.append(GAUGES.open)
        gevent.sleep(min(spec["step"], max(0.0, recorder.end - time.perf_counter())))
    overdue = sum(stream.overdue() for stream in Stream.all)
    health = watch.stop()
    memory = anonymous_memory() - memory
    say(event="end")
    if spec["memory"]:
        gevent.get_hub().threadpool.apply(sys.stdin.readline)
    wait_while(lambda: recorder.finished < GAUGES.started, LAST_RESPONSES_SECONDS)
    GAUGES.over = True
    wait_while(lambda: GAUGES.in_flight > 0, LAST_RESPONSES_SECONDS)
    health |= {
        "offered": GAUGES.offered,
        "started": GAUGES.started,
        "late_p99_ms": GAUGES.late.percentile(0.99) if GAUGES.late else 0.0,
        "wanted": wanted,
        "open": held,
    }
    say(
        event="seen",
        began=began,
        seconds=spec["seconds"],
        series=recorder.series(),
        timeline=recorder.timeline(spec["seconds"], opened),
        overdue=overdue,
        in_flight=GAUGES.in_flight,
        generator=health,
        generator_bytes=memory,
    )
    os._exit(0)  # the connections end with the process


def answer(spec: dict[str, Any]) -> NoReturn:
    """Tell the runner which endpoints of the scenarios in `missing` the application at `host` lacks, and end."""
    say(event="missing", endpoints=list(missing(spec["missing"], spec["host"], spec["addresses"])))
    os._exit(0)


def main() -> None:
    """Fork a process for each measurement from this one, which has only imported modules.

    The imports take a second, which a new process would need each time. gevent's loop starts in the forked process.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.dup2(1, 2)  # one pipe, so that an error comes before the line that the process has ended
    fork, wait = (gevent.monkey.get_original("os", name) for name in ("fork", "waitpid"))
    for line in sys.stdin:
        child = fork()
        if child == 0:
            spec = json.loads(line)
            if "missing" in spec:
                answer(spec)
            measure(spec)
        _, status = wait(child, 0)
        say(event="ended", status=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
