"""One measurement: what the generator saw, and what its target used and served meanwhile."""

import datetime
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

from report.figures import Cell
from runner.errors import LoadError
from runner.faults import Faults
from runner.gates import broken
from runner.meter import Meter
from runner.plan import Planned
from runner.scenario import Scenario
from targets.containers import Containers
from targets.stack import Stack
from targets.target import Target, end
from users.addresses import at

MOST_SECONDS = 120.0  # that a measurement may take beyond its window


class Generator:
    """The runner's end of the pipe to runner/generator.py."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def resume(self) -> None:
        """Tell it that the memory has been read."""
        print(file=self._process.stdin, flush=True)

    def measure(self, spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield what it tells about a measurement; raise LoadError if it fails, or takes too long."""
        complaint, status = "it has ended", ""
        limit = threading.Timer(spec["seconds"] + MOST_SECONDS, end, [self._process])
        limit.start()
        try:
            with suppress(BrokenPipeError):
                print(json.dumps(spec), file=self._process.stdin, flush=True)
            for line in self._process.stdout or ():
                # Messages of Python, Locust or the engine, or a line that the generator's end has cut off.
                if not line.startswith("{") or not line.endswith("}\n"):
                    complaint = line.strip() or complaint
                    continue
                told = json.loads(line)
                if told["event"] != "ended":
                    yield told
                elif told["status"] == 0:
                    return
                else:
                    status = f" with status {told['status']}"
                    break
            if limit.finished.is_set():
                complaint = f"not done {MOST_SECONDS:.0f} s after the measuring window"
        finally:
            limit.cancel()
        raise LoadError(f"the generator failed{status}: {complaint}")


class Measurement:
    """A variant at a point, measured once."""

    def __init__(self, target: Target, generator: Generator, name: str, scenario: Scenario, planned: Planned) -> None:
        self.target, self.generator, self.name, self.scenario, self.planned = target, generator, name, scenario, planned
        self.variant = scenario.variants[planned.variant]
        self.slowed = target if scenario.slowed and isinstance(target, Containers) else None
        self.cell: Cell = {
            "scenario": name,
            "variant": planned.variant,
            "point": planned.point,
            "repetition": planned.repetition,
            "tool": planned.tool,
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }

    def make(self, baseline: dict[str, int], seed: str) -> Cell:
        """Measure, and return the results. `baseline` is each tier's memory without load, in bytes."""
        if self.planned.tool == "wrk":
            return self._wrk()
        with ExitStack() as after:
            if self.slowed:
                self.cell["slowed"] = after.enter_context(self.slowed.slowed(self.variant.service))
            spec = {
                "scenario": self.name,
                "variant": self.planned.variant,
                "point": self.planned.point,
                "host": self._host(),
                "addresses": self.target.addresses(),
                "seconds": self.planned.seconds,
                "step": 0.25 if self.scenario.drawn == "timeline" else 1.0,
                "seed": seed,
                "core": self.target.generator_core,
                "memory": bool(baseline),
            }
            if isinstance(self.target, Stack):
                meter = after.enter_context(Meter(self.target.processes()))
                faults = after.enter_context(Faults(self.target, self.variant.service, self.scenario.faults))
                self._observe(self.target, self.generator.measure(spec), meter, faults, baseline)
            else:
                for told in self.generator.measure(spec):
                    self._keep(told)
        self.cell["invalid"] = broken(self.cell["generator"])
        return self.cell

    def _host(self) -> str:
        """Return where the users send their requests; what the scenario needs is at hand."""
        if self.variant.balance and isinstance(self.target, Containers):
            return self.target.balanced(self.variant.balance)
        if self.variant.direct and isinstance(self.target, Stack):
            return self.target.direct(self.variant.service)
        return self.target.url()

    def _keep(self, told: dict[str, Any]) -> None:
        if told["event"] == "seen":
            self.cell |= {key: value for key, value in told.items() if key != "event"}

    def _observe(
        self, stack: Stack, measured: Iterator[dict[str, Any]], meter: Meter, faults: Faults, baseline: dict[str, int]
    ) -> None:
        """Follow the measurement, and read from the stack what belongs to each of its stages."""
        served: dict[str, int] = {}
        for told in measured:
            self._keep(told)
            if told["event"] == "ready" and self.slowed:
                served = self.slowed.served(self.variant.balance)
            elif told["event"] == "begin":
                faults.begin()
            elif told["event"] == "end" and baseline:
                self.cell["memory"] = {tier: now - baseline[tier] for tier, now in stack.memory().items()}
                self.generator.resume()
            elif told["event"] == "seen":
                if used := meter.between(told["began"], told["began"] + told["seconds"]):
                    self.cell["cpu"] = used
                if self.slowed:
                    now = self.slowed.served(self.variant.balance)
                    self.cell["served"] = {address: count - served.get(address, 0) for address, count in now.items()}
        faults.wait()
        if self.scenario.faults:
            self.cell["faults"] = faults.done

    def _wrk(self) -> Cell:
        core = self.target.generator_core
        command = [] if core is None else ["taskset", "-c", str(core)]
        url = self._host() + at(self.variant.users[0].user.path, self.target.addresses())  # type: ignore[attr-defined]
        command += ["wrk", "-t1", f"-c{self.planned.point:g}", f"-d{max(2, self.planned.seconds):.0f}s", url]
        try:
            with self.target.generate(*command) as wrk:
                printed, _ = wrk.communicate(timeout=self.planned.seconds + 30)
        except subprocess.TimeoutExpired:
            printed = "it did not end"
        rate = re.search(r"Requests/sec:\s+([\d.]+)", printed)
        trouble = re.findall(r".*(?:Non-2xx|Socket errors).*", printed)
        if not rate:
            trouble = printed.splitlines()[-1:] or ["it printed nothing"]
        self.cell["invalid"] = [f"wrk: {line.strip()}" for line in trouble]
        return self.cell | ({"rate": float(rate[1])} if rate else {})
