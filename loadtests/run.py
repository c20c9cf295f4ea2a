"""Runs the load tests: cell by cell, in random order, and ends with a report. scripts/load says how it is called."""

import locust  # isort: skip  # noqa: F401 - first: it makes what is imported later cooperative

import argparse
import datetime
import functools
import os
import platform
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gevent
import psutil
from docker.errors import DockerException

import report
from containers import Compose
from deployment import ROOT, Elsewhere, LoadError, run
from measurement import Generator, Measurement
from plan import REPETITIONS, Progress, listing, plan, points, scenarios
from processes import Local
from results import FORMAT, Cell, Run, declare

RESULTS = Path(__file__).parent / "results"
MET, FAILED, MISSED, INVALID = 0, 1, 3, 4


class Session:
    """A run from its plan to its report."""

    def __init__(self, names: list[str], size: str, seed: int, target: str | None) -> None:
        self.size, self.seed, self.target = size, seed, target
        self.scenarios = {name: found for name, found in scenarios().items() if name in names or not names}
        self.left_out: dict[str, str] = {}

    def run(self) -> Run:
        """Measure everything; return the results, of which an interruption or a failure leaves a part."""
        with ExitStack() as after:
            stack = self._stack(after)
            for name in [name for name, (scenario, _) in self.scenarios.items() if scenario.needs not in stack.at_hand]:
                self._leave_out(name, f"needs {'the stack' if stack.at_hand == ('nothing',) else 'containers'} at hand")
                del self.scenarios[name]
            if "wrk" not in stack.tools and any(scenario.cross_check for scenario, _ in self.scenarios.values()):
                self._leave_out("cross-check", "needs wrk (apt-get install wrk)")
            if not self.scenarios:
                raise LoadError("nothing is left to be measured")
            results = Run(self._folder(), self._conditions(stack))
            try:
                results.save_conditions()
                with stack.prepared(), stack.generate("python", "cell.py") as process:
                    stack.settle()
                    self._measure(stack, Generator(process), results)
                results.conditions["partial"] = ""
            except KeyboardInterrupt:
                results.conditions["partial"] = "interrupted"
            except (LoadError, subprocess.SubprocessError, DockerException, psutil.Error, OSError) as error:
                results.conditions["partial"] = str(error) if still_answers(stack) else "the stack no longer answers"
            results.conditions["ended"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            results.save_conditions()
        return results

    def _leave_out(self, what: str, why: str) -> None:
        self.left_out[what] = why
        print(f"load: {what} is left out: {why}")

    def _stack(self, after: ExitStack) -> Elsewhere:
        if self.target is not None:
            stack = Elsewhere(self.target.rstrip("/"))
            if not stack.answers():
                raise LoadError(f"nothing answers at {self.target}")
            return stack
        found = running()
        if found is not None:
            print(f"load: the stack that runs here: {found.name}")
            return found
        print("load: no stack runs here, so it is started, and ended afterwards")
        after.callback(subprocess.run, [str(ROOT / "scripts/down")], check=False)
        return start()

    def _folder(self) -> Path:
        folder = RESULTS / datetime.datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
        folder.mkdir(parents=True)
        return folder

    def _conditions(self, stack: Elsewhere) -> dict[str, Any]:
        try:
            commit = run("git", "describe", "--always", "--dirty")
        except (LoadError, OSError):
            commit = "unknown"
        try:
            model = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        except OSError:
            model = []
        return {
            "format": FORMAT,
            "began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "partial": "not ended",
            "size": self.size,
            "repetitions": REPETITIONS[self.size],
            "seed": self.seed,
            "commit": commit,
            "loaded": stack.name if self.target is None else self.target,
            "generator_core": stack.generator_core,
            "machine": {
                "cores": os.cpu_count(),
                "processor": model[0] if model else platform.machine(),
                "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
                "system": f"{platform.system()} {platform.release()}",
            },
            "software": {"locust": version("locust"), "python of run.py": platform.python_version()}
            | {f"{service} replicas": str(many) for service, many in stack.replicas.items()}
            | stack.facts(),
            "left_out": self.left_out,
            "scenarios": {
                name: declare(scenario, doc, points(scenario, self.size), judged=self.size != "smoke")
                for name, (scenario, doc) in self.scenarios.items()
            },
        }

    def _measure(self, stack: Elsewhere, generator: Generator, results: Run) -> None:
        chance = random.Random(self.seed)
        plans = {
            name: [cell for cell in plan(scenario, self.size, chance) if cell.tool in stack.tools]
            for name, (scenario, _) in self.scenarios.items()
        }
        progress = Progress([cell for planned in plans.values() for cell in planned])
        for name, planned in plans.items():
            scenario, _ = self.scenarios[name]
            for cell in planned:
                tool = "" if cell.tool == "locust" else f", by {cell.tool}"
                progress.step(f"{name}: {cell.variant}, {cell.point:g} {scenario.axis}{tool}")
                baseline = fresh_memory(stack) if cell.fresh else {}
                measurement = Measurement(stack, generator, name, scenario, cell)
                seen = measurement.make(baseline, f"{self.seed}-{name}-{cell.repetition}")
                results.add(seen)
                for reason in seen["invalid"]:
                    print(f"load:      invalid: {reason}")
                if failures := all_failed(seen):
                    print(f"load:      nothing was answered as it should be: {failures}")
                if not stack.answers():
                    raise LoadError("the stack no longer answers")
                if scenario.faults or seen.get("in_flight") or seen.get("generator", {}).get("wanted"):
                    stack.settle()
                progress.stepped()
            stack.done()


def fresh_memory(stack: Elsewhere) -> dict[str, int]:
    """Return the memory of each tier without load, in bytes."""
    with ThreadPoolExecutor(1) as to_its_end:  # an interruption leaves no stack behind that is half stopped
        to_its_end.submit(stack.fresh).result()
    stack.settle()
    return stack.memory()


def still_answers(stack: Elsewhere) -> bool:
    """Tell whether the stack is there; also where the engine that knows has ended."""
    try:
        return stack.answers()
    except (DockerException, OSError):
        return False


def all_failed(seen: Cell) -> str:
    """Return what failed, and how often, where all did; else an empty string."""
    series = seen.get("series", {}).values()
    if any(one["times"] for one in series):
        return ""
    return ", ".join(f"{what} ({many} times)" for one in series for what, many in one["failed"].items())


def running() -> Elsewhere | None:
    """Return the stack that runs here, or None."""
    with suppress(OSError, ValueError, KeyError, psutil.Error):  # also where the number is another process's by now
        return Local()
    try:
        here = run("docker", "compose", "ps", "--quiet", "haproxy")
    except (LoadError, OSError):
        return None
    return Compose() if here else None


def start() -> Elsewhere:
    """Start the stack as ./scripts/up does, and return it."""
    done = subprocess.run([str(ROOT / "scripts/up")], check=False, stdin=subprocess.DEVNULL)
    stack = running() if done.returncode == 0 else None
    if stack is None:
        raise LoadError("the stack could not be started (see above)")
    return stack


@contextmanager
def interruptible() -> Iterator[None]:
    """Have signals interrupt what runs in this `with`, so that it is undone: Python would interrupt any greenlet."""
    throw = functools.partial(gevent.getcurrent().throw, KeyboardInterrupt)
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    watchers = [gevent.signal_handler(number, gevent.get_hub().loop.run_callback, throw) for number in signals]
    try:
        yield
    finally:
        for number, watcher in zip(signals, watchers, strict=True):
            watcher.cancel()
            signal.signal(number, signal.default_int_handler)


def conclude(results: Run) -> int:
    """Draw the report, print what was found, and return the exit status."""
    path = report.write(results)
    verdicts = results.verdicts()
    for line in report.cross_check(results):
        print(f"load: {line}")
    for verdict in verdicts:
        if not verdict.met:
            word = "not judged" if verdict.met is None else "missed"
            print(f"load: {word}: {verdict.scenario}: {verdict.threshold}; it was {verdict.measured}")
    if partial := results.conditions["partial"]:
        print(f"load: {partial}: the results are partial, of {len(results.cells)} measurements", file=sys.stderr)
    print(f"load: {path}")
    if partial:
        return FAILED
    if results.invalid():
        return INVALID
    return MET if all(verdict.met for verdict in verdicts) else MISSED


def main() -> int:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(prog="load", usage=argparse.SUPPRESS, add_help=False)
    parser.add_argument("names", nargs="*")
    for flag in ("--full", "--smoke", "--list"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, metavar="DIR")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A", "B"))
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(listing()))
        return MET
    try:
        if arguments.report:
            print(f"load: {report.write(Run.read(arguments.report))}")
            return MET
        if arguments.compare:
            print(report.compare(*map(Run.read, arguments.compare)))
            return MET
    except ValueError as error:
        parser.error(str(error))
    if unknown := set(arguments.names) - set(scenarios()):
        parser.error(f"no scenario is called {', '.join(sorted(unknown))}; there are {', '.join(scenarios())}")
    if arguments.target is not None and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", arguments.target):
        parser.error(f"--target must be a URL such as http://127.0.0.1:8080, not {arguments.target!r}")
    size = "full" if arguments.full else "smoke" if arguments.smoke else "quick"
    with interruptible():
        results = Session(arguments.names, size, arguments.seed, arguments.target).run()
    return conclude(results)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("load: interrupted")
    except LoadError as error:
        print(f"load: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except OSError as error:
        print(f"load: {f'{error.strerror}: {error.filename or RESULTS}' if error.strerror else error}", file=sys.stderr)
        sys.exit(FAILED)
