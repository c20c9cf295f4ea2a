"""Measures variants of a scenario, each at one point and in a Locust process of its own.

USAGE: cell.py    run by run.py; reads a line for each measurement, a JSON object: see `measure`

Prints a line of JSON when it is ready to load, when the measuring begins and ends, with what was seen, and when the
process has ended.
"""

import os

os.environ["GEVENT_RESOLVER"] = "block"  # look-ups in threads would compete for the core; there is one a process

import gc
import importlib
import json
import random
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import gevent
import gevent.monkey
import locust
import psutil
from locust.env import Environment

from clients import Closed
from gates import OPEN
from gauges import GAUGES
from histogram import Histogram
from scenario import Scenario
from streams import OPENED_A_SECOND, Stream

WARM_UP_SECONDS = (0.5, 5.0)  # until every user of a closed loop has been answered once: at least, and at most
OPEN_SECONDS = 60.0  # how long connections may take to open
LAST_ANSWERS_SECONDS = 15.0  # how long requests of the measuring may still be answered, and then those after it


class Recorder:
    """Keeps what Locust is told of while the measuring lasts: times, failures, and how both went on."""

    def __init__(self, step: float) -> None:
        self.step = step
        self.begin = self.end = float("inf")
        self.times: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.failures: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.steps: defaultdict[int, defaultdict[str, Histogram]] = defaultdict(lambda: defaultdict(Histogram))
        self.failed_steps: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.arrived = 0  # how many requests of the measuring have been answered, or failed

    def __call__(
        self,
        request_type: str,
        name: str,
        response_time: float,
        exception: Exception | None,
        context: dict[str, Any],
        **_: Any,
    ) -> None:
        """Listen to Locust's `request` event. A request counts by when it was due, what a stream reports by now."""
        when = context.get("due") or time.perf_counter()
        if not self.begin <= when < self.end:
            return
        self.arrived += "due" in context
        series = f"{request_type} {name}"
        step = int((when - self.begin) / self.step)
        if exception is None:
            self.times[series].record(response_time)
            self.steps[step][request_type].record(response_time)
        else:
            self.failures[series][f"{type(exception).__name__} {exception}"[:100]] += 1
            self.failed_steps["requests" if request_type == "GET" else "streams"][step] += 1

    def series(self) -> dict[str, Any]:
        """Return what was recorded, as JSON takes it."""
        return {
            name: {"times": self.times[name].pairs(), "failed": dict(self.failures[name])}
            for name in sorted({*self.times, *self.failures})
        }


class Watch:
    """Watches the process that generates the load: its CPU time, the lag of its loop, its wait for a core."""

    def __init__(self) -> None:
        self.lag = Histogram()
        self._began, self._cpu, self._waited = time.perf_counter(), time.process_time(), waited()
        self._greenlet = gevent.spawn(self._measure_lag)

    def _measure_lag(self) -> None:
        while True:
            due = time.perf_counter() + 0.01
            gevent.sleep(0.01)
            lag = max(0.0, time.perf_counter() - due)
            while lag >= 0:  # for all who would have woken up meanwhile: one long stall is not one sample
                self.lag.record(lag * 1000)
                lag -= 0.01

    def stop(self) -> dict[str, float]:
        """Return the shares and the lag since the beginning."""
        self._greenlet.kill()
        took = time.perf_counter() - self._began
        return {
            "cpu": (time.process_time() - self._cpu) / took,
            "lag_p99_ms": self.lag.percentile(0.99) if self.lag else 0.0,
            "waited": (waited() - self._waited) / took,
        }


def waited() -> float:
    """Return the seconds that this thread was ready to run and had no core; 0 where the kernel does not say."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def anonymous_memory() -> int:
    """Return the bytes of this process's memory that are no file's: a process that was forked finds libraries anew."""
    used = psutil.Process().memory_info()
    return int(used.rss - getattr(used, "shared", 0))


def say(**line: Any) -> None:
    """Tell measurement.py."""
    print(json.dumps(line), flush=True)


def wait_while(holds: Callable[[], bool], seconds: float) -> None:
    """Return when it no longer holds, or after so many seconds."""
    patience = time.perf_counter() + seconds
    while holds() and time.perf_counter() < patience:
        gevent.sleep(0.05)


def prepare(spec: dict[str, Any]) -> Iterator[tuple[type, int]]:
    """Yield the variant's user classes with what holds for this cell, and how many of each."""
    sys.path.insert(0, str(Path(__file__).parent / "scenarios"))
    scenario: Scenario = importlib.import_module(spec["scenario"]).SCENARIO
    for number, users in enumerate(scenario.variants[spec["variant"]].users):
        user, count, attributes = users.at(spec["point"])
        attributes |= {"host": spec["host"], "seed": f"{spec['seed']}-{number}", "fixed_count": count}
        if issubclass(user, Stream):
            attributes["ramp_seconds"] = max(1.0, count / OPENED_A_SECOND)
        if count:
            yield type(user.__name__, (user,), attributes), count


def measure(spec: dict[str, Any]) -> NoReturn:
    """Measure: load, wait until all streams are open, warm up, record for as long as asked, tell, and end.

    Requests count by when they were sent, and the load goes on until they have been answered; then it ends, and what
    is still on its way is waited for, so that the next measurement finds a stack that has nothing to do.

    The specification: `scenario`, `variant`, `point`, `host` (an address or several, with commas), `seconds`, `step`
    (of the timeline, seconds), `seed`, `core` (the processor to stay on, or null), and `memory` (whether that of the
    tiers is read after the measuring: it then waits for a line that says so).
    """
    if spec["core"] is not None:
        os.sched_setaffinity(0, {spec["core"]})
    random.seed(spec["seed"])
    classes = dict(prepare(spec))
    wanted = sum(count for user, count in classes.items() if issubclass(user, Stream))
    asking = sum(count for user, count in classes.items() if issubclass(user, Closed))
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
    gc.disable()  # a collection stops the loop for as long as many connections take to look through
    shortest, longest = WARM_UP_SECONDS
    gevent.sleep(shortest)
    wait_while(lambda: GAUGES.answered < asking, longest - shortest)

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
    generator = watch.stop()
    memory = anonymous_memory() - memory
    say(event="end")
    if spec["memory"]:
        gevent.get_hub().threadpool.apply(sys.stdin.readline)
    wait_while(lambda: recorder.arrived < GAUGES.started, LAST_ANSWERS_SECONDS)
    GAUGES.over = True
    wait_while(lambda: GAUGES.in_flight > 0, LAST_ANSWERS_SECONDS)
    generator |= {
        "offered": GAUGES.offered,
        "started": GAUGES.started,
        "late_p99_ms": GAUGES.late.percentile(0.99) if GAUGES.late else 0.0,
        "wanted": wanted,
        "open": held,
    }
    steps = range(round(spec["seconds"] / spec["step"]))
    timeline = {
        "seconds": [step * spec["step"] for step in steps],
        "open": [*opened, *[GAUGES.open] * len(steps)][: len(steps)],
        "failed": [recorder.failed_steps["requests"][step] for step in steps],
        "ended": [recorder.failed_steps["streams"][step] for step in steps],
        "answered": [recorder.steps[step]["GET"].total() for step in steps],
        "p99": [
            recorder.steps[step]["GET"].percentile(0.99) if recorder.steps[step]["GET"] else None for step in steps
        ],
    }
    say(
        event="seen",
        began=began,
        seconds=spec["seconds"],
        series=recorder.series(),
        timeline=timeline,
        overdue=overdue,
        in_flight=GAUGES.in_flight,
        generator=generator,
        generator_bytes=memory,
    )
    os._exit(0)  # the connections end with the process


def main() -> None:
    """Measure as often as is asked for, each time in a process that begins as this one has: it has only imported.

    That takes a second, which a process started anew would need each time. gevent's loop begins in the new one.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.dup2(1, 2)  # what an error says, and that the process has ended, must not overtake each other
    fork, wait = (gevent.monkey.get_original("os", name) for name in ("fork", "waitpid"))
    for line in sys.stdin:
        child = fork()
        if child == 0:
            measure(json.loads(line))
        _, status = wait(child, 0)
        say(event="ended", status=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
