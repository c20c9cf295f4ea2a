"""One measurement: the generator's process, what the stack used and served meanwhile, and the harm done to it."""

import datetime
import json
import re
import subprocess
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from deployment import Elsewhere, LoadError, Use
from gates import broken
from results import Cell
from scenario import Scenario


@dataclass(frozen=True)
class Planned:
    """A measurement to be made."""

    variant: str
    point: float
    repetition: int
    tool: str = "locust"


class Meter:
    """Reads what the tiers use, ten times a second for as long as it is entered.

    What the generator says may come late from a container on a busy machine; its clock tells which readings count.
    """

    def __init__(self, stack: Elsewhere) -> None:
        self.stack = stack
        self.readings: list[tuple[float, dict[str, Use]]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._end.is_set():
            try:
                self.readings.append((time.time(), self.stack.use()))
            except LoadError:  # the run has other ways to find out
                return
            self._end.wait(0.1)

    def between(self, begin: float, end: float) -> tuple[dict[str, float], dict[str, int]]:
        """Return the CPU seconds that each tier has used between two times of the clock, and its memory at the end."""
        last = self.readings[-1][1]
        cpu = {tier: self._cpu(tier, end) - self._cpu(tier, begin) for tier in last}
        now = next((used for when, used in self.readings if when >= end), last)
        return cpu, {tier: now[tier].memory for tier in now}

    def _cpu(self, tier: str, when: float) -> float:
        after = next((index for index, (read, _) in enumerate(self.readings) if read >= when), len(self.readings) - 1)
        (early, before), (late, behind) = self.readings[max(0, after - 1)], self.readings[after]
        share = min(1.0, max(0.0, (when - early) / (late - early))) if late > early else 0.0
        return before[tier].cpu + share * (behind[tier].cpu - before[tier].cpu)


class Measurement:
    """One cell: a generator's process, and what the stack did meanwhile."""

    def __init__(self, stack: Elsewhere, name: str, scenario: Scenario, planned: Planned, lasts: float) -> None:
        self.stack, self.name, self.scenario, self.planned, self.lasts = stack, name, scenario, planned, lasts
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
                "seconds": self.lasts,
                "step": 0.25 if self.scenario.drawn == "timeline" else 1.0,
                "seed": seed,
                "core": self.stack.generator_core,
            }
            meter = after.enter_context(Meter(self.stack))
            process = self.stack.generate(["python", "cell.py", json.dumps(spec)])
            after.callback(process.kill)
            limit = threading.Timer(self.lasts + 120, process.kill)
            limit.start()
            after.callback(limit.cancel)
            self._follow(process, meter, baseline)
        self.cell["invalid"] = broken(self.cell["generator"])
        return self.cell

    def _follow(self, process: "subprocess.Popen[str]", meter: Meter, baseline: dict[str, int]) -> None:
        faults = threading.Thread(target=self._do_harm)
        complaint = ""
        for line in process.stdout or ():
            if not line.startswith("{"):  # what Python or Locust have to say
                complaint = line.strip() or complaint
                continue
            said = json.loads(line)
            if said["event"] == "ready":
                served = self.stack.served(self.variant.balance) if self.scenario.slowed else {}
            elif said["event"] == "begin":
                faults.start()
            elif said["event"] == "seen":
                self.cell |= {key: value for key, value in said.items() if key != "event"}
                cpu, memory = meter.between(said["began"], said["began"] + said["seconds"])
                self.cell["cpu"] = cpu
                if baseline:
                    self.cell["memory"] = {tier: memory[tier] - baseline[tier] for tier in memory}
                if self.scenario.slowed:
                    got = self.stack.served(self.variant.balance)
                    self.cell["served"] = {address: many - served.get(address, 0) for address, many in got.items()}
        if faults.ident is not None:
            faults.join()
        process.wait()
        if "series" not in self.cell:
            raise LoadError(f"the generator ended with status {process.returncode}: {complaint}")
        if self.scenario.faults:  # a replica that was killed has used CPU time that nobody can ask it for any more
            del self.cell["cpu"]

    def _do_harm(self) -> None:
        began = time.monotonic()
        for fault, after in self.scenario.faults.items():
            time.sleep(max(0, began + after - time.monotonic()))
            getattr(self.stack, fault)(self.variant.service)

    def _wrk(self, host: str) -> Cell:
        core = self.stack.generator_core
        command = [] if core is None else ["taskset", "-c", str(core)]
        path = self.variant.users[0].user.path  # type: ignore[attr-defined]
        command += ["wrk", "-t1", f"-c{self.planned.point:g}", f"-d{self.lasts:g}s", "--latency", host + path]
        try:
            said, _ = self.stack.generate(command).communicate(timeout=self.lasts + 30)
            (rate,) = re.findall(r"Requests/sec:\s+([\d.]+)", said)
        except (OSError, ValueError):
            raise LoadError("the cross-check needs wrk (apt-get install wrk)") from None
        return self.cell | {"rate": float(rate), "invalid": [] if "Non-2xx" not in said else ["wrk saw failures"]}
