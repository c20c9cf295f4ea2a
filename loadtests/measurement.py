"""One measurement: what the generator saw, what the stack used and served meanwhile, and the harm done to it."""

import datetime
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import Any, Self

import psutil

from deployment import Elsewhere, LoadError, end
from gates import broken
from plan import Planned
from results import Cell
from scenario import Scenario

SLOWEST_SECONDS = 120.0  # how much longer than its measuring a measurement may take, all in all


class Meter:
    """Reads the CPU time of each tier's processes, five times a second for as long as it is entered.

    What the generator says may come late from a container on a busy machine; its clock tells which readings count.
    """

    def __init__(self, processes: dict[str, list[psutil.Process]]) -> None:
        self.processes = processes
        self.readings: list[tuple[float, dict[str, float]]] = []
        self.ended = False  # whether a process has ended: what it used since the last reading, nobody can tell
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._end.is_set() and not self.ended:
            try:
                self.readings.append((time.time(), {tier: cpu_seconds(many) for tier, many in self.processes.items()}))
            except psutil.Error:
                self.ended = True
            self._end.wait(0.2)

    def between(self, begin: float, end: float) -> dict[str, float]:
        """Return the CPU seconds that each tier has used between two times of the clock; none where one has ended."""
        if self.ended:
            return {}
        return {tier: self._at(tier, end) - self._at(tier, begin) for tier in self.processes}

    def _at(self, tier: str, when: float) -> float:
        after = next((index for index, (read, _) in enumerate(self.readings) if read >= when), len(self.readings) - 1)
        (early, before), (late, behind) = self.readings[max(0, after - 1)], self.readings[after]
        share = min(1.0, max(0.0, (when - early) / (late - early))) if late > early else 0.0
        return before[tier] + share * (behind[tier] - before[tier])


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU time that they have used since their start."""
    times = [process.cpu_times() for process in processes]
    return float(sum(time.user + time.system for time in times))


class Harm:
    """Does the scenario's faults, once begun, each at its time; where it is left early, no further ones."""

    def __init__(self, stack: Elsewhere, service: str, faults: Mapping[str, float]) -> None:
        self.stack, self.service, self.faults = stack, service, faults
        self.failed: Exception | None = None
        self.done: dict[str, float] = {}  # the faults that were begun, and when (s)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._do)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.wait()

    def begin(self) -> None:
        """Start the clock of the faults."""
        self._thread.start()

    def wait(self) -> None:
        """Return when what was killed or stopped has been started again; raise LoadError where that failed."""
        if self._thread.ident is not None:
            self._thread.join()
        if self.failed is not None:
            raise LoadError(f"a fault could not be done: {self.failed}")

    def _do(self) -> None:
        began = time.monotonic()
        for fault, after in self.faults.items():
            if self._end.wait(began + after - time.monotonic()):
                return
            self.done[fault] = time.monotonic() - began
            try:
                getattr(self.stack, fault)(self.service)
            except Exception as error:  # noqa: BLE001 - whatever it was: no fault, no measurement
                self.failed = error
                return


class Generator:
    """The program that generates the load, in a new process for each measurement (cell.py)."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def go_on(self) -> None:
        """Tell it that the memory has been read."""
        print(file=self._process.stdin, flush=True)

    def measure(self, spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield what is told of a measurement, as it goes on; raise LoadError where it fails, or does not end."""
        complaint, status = "it has ended", ""
        limit = threading.Timer(spec["seconds"] + SLOWEST_SECONDS, end, [self._process])
        limit.start()
        try:
            with suppress(BrokenPipeError):
                print(json.dumps(spec), file=self._process.stdin, flush=True)
            for line in self._process.stdout or ():
                # What Python, Locust or the engine have to say, or what the generator's end has cut off.
                if not line.startswith("{") or not line.endswith("}\n"):
                    complaint = line.strip() or complaint
                    continue
                said = json.loads(line)
                if said["event"] != "ended":
                    yield said
                elif said["status"] == 0:
                    return
                else:
                    status = f" with status {said['status']}"
                    break
            if limit.finished.is_set():
                complaint = f"not done {SLOWEST_SECONDS:.0f} s after its time"
        finally:
            limit.cancel()
        raise LoadError(f"the generator failed{status}: {complaint}")


class Measurement:
    """One cell: what the generator saw, and what the stack did meanwhile."""

    def __init__(self, stack: Elsewhere, generator: Generator, name: str, scenario: Scenario, planned: Planned) -> None:
        self.stack, self.generator, self.name, self.scenario, self.planned = stack, generator, name, scenario, planned
        self.variant = scenario.variants[planned.variant]
        self.cell: Cell = {
            "scenario": name,
            "variant": planned.variant,
            "point": planned.point,
            "repetition": planned.repetition,
            "tool": planned.tool,
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }

    def make(self, baseline: dict[str, int], seed: str) -> Cell:
        """Measure, and return what was seen. `baseline` is the memory of each tier without load, in bytes."""
        with ExitStack() as after:
            if self.scenario.slowed:
                self.cell["slowed"] = after.enter_context(self.stack.slowed(self.variant.service))
            host = self.stack.hosts(self.variant.service, direct=self.variant.direct, balance=self.variant.balance)
            if self.planned.tool == "wrk":
                return self._wrk(host)
            spec = {
                "scenario": self.name,
                "variant": self.planned.variant,
                "point": self.planned.point,
                "host": host,
                "seconds": self.planned.seconds,
                "step": 0.25 if self.scenario.drawn == "timeline" else 1.0,
                "seed": seed,
                "core": self.stack.generator_core,
                "memory": bool(baseline),
            }
            meter = after.enter_context(Meter(self.stack.processes()))
            harm = after.enter_context(Harm(self.stack, self.variant.service, self.scenario.faults))
            self._follow(spec, meter, harm, baseline)
        self.cell["invalid"] = broken(self.cell["generator"])
        return self.cell

    def _follow(self, spec: dict[str, Any], meter: Meter, harm: Harm, baseline: dict[str, int]) -> None:
        for said in self.generator.measure(spec):
            if said["event"] == "ready":
                served = self.stack.served(self.variant.balance) if self.scenario.slowed else {}
            elif said["event"] == "begin":
                harm.begin()
            elif said["event"] == "end" and baseline:
                self.cell["memory"] = {tier: now - baseline[tier] for tier, now in self.stack.memory().items()}
                self.generator.go_on()
            elif said["event"] == "seen":
                self.cell |= {key: value for key, value in said.items() if key != "event"}
                if used := meter.between(said["began"], said["began"] + said["seconds"]):
                    self.cell["cpu"] = used
                if self.scenario.slowed:
                    got = self.stack.served(self.variant.balance)
                    self.cell["served"] = {address: many - served.get(address, 0) for address, many in got.items()}
        harm.wait()
        if self.scenario.faults:
            self.cell["faults"] = harm.done

    def _wrk(self, host: str) -> Cell:
        core = self.stack.generator_core
        command = [] if core is None else ["taskset", "-c", str(core)]
        path = self.variant.users[0].user.path  # type: ignore[attr-defined]
        command += ["wrk", "-t1", f"-c{self.planned.point:g}", f"-d{max(2, self.planned.seconds):.0f}s", host + path]
        try:
            with self.stack.generate(*command) as wrk:
                said, _ = wrk.communicate(timeout=self.planned.seconds + 30)
        except subprocess.TimeoutExpired:
            said = "it did not end"
        rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
        trouble = re.findall(r".*(?:Non-2xx|Socket errors).*", said)
        if not rate:
            trouble = said.splitlines()[-1:] or ["it said nothing"]
        self.cell["invalid"] = [f"wrk: {line.strip()}" for line in trouble]
        return self.cell | ({"rate": float(rate[1])} if rate else {})
