"""A run: every scenario measured, in random order, on a target that is found or started."""

import datetime
import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
from docker.errors import DockerException

from handle import ROOT, StackError
from report.figures import Cell
from report.results import Results, declare
from runner.conditions import conditions, now
from runner.errors import EndpointError, LoadError
from runner.measurement import Generator, Measurement
from runner.plan import plan, points, scenarios
from runner.progress import Progress
from targets.containers import Containers
from targets.find import running, start
from targets.remote import Remote
from targets.stack import Stack
from targets.target import Target

RESULTS = Path(__file__).parent.parent / "results"
NEEDS = {"nothing": Target, "stack": Stack, "containers": Containers}  # what a scenario may need


class Run:
    """A run from its plan to its results."""

    def __init__(self, names: list[str], size: str, seed: int, url: str | None) -> None:
        self.size, self.seed, self.url = size, seed, url
        self.scenarios = {name: found for name, found in scenarios().items() if name in names or not names}
        self.left_out: dict[str, str] = {}

    def results(self) -> Results:
        """Measure everything; an interruption or a failure leaves partial results."""
        with ExitStack() as after:
            target = self._target(after)
            self._leave_out_what_cannot_be_measured(target)
            results = Results(self._folder(), conditions(target, self.size, self.seed) | self._declared())
            try:
                results.save_conditions()
                with target.prepared(), target.generate("python", "-m", "runner.generator") as process:
                    generator = Generator(process)
                    if isinstance(target, Stack):
                        target.settle()
                    self._check_endpoints(target, generator)
                    self._measure(target, generator, results)
                results.conditions["partial"] = ""
            except EndpointError:
                shutil.rmtree(results.folder)
                raise
            except KeyboardInterrupt:
                results.conditions["partial"] = "interrupted"
            except (LoadError, StackError, subprocess.SubprocessError, DockerException, psutil.Error, OSError) as error:
                results.conditions["partial"] = str(error) if still_answers(target) else "the stack no longer answers"
            results.conditions["ended"] = now()
            results.save_conditions()
        return results

    def _target(self, after: ExitStack) -> Target:
        if self.url is not None:
            remote = Remote(self.url)
            if not remote.answers():
                raise LoadError(f"nothing answers at {self.url}")
            return remote
        found = running()
        if found is not None:
            print(f"load: the stack that runs here: {found.name}")
            return found
        print("load: no stack runs here, so it is started, and ended afterwards")
        after.callback(subprocess.run, [str(ROOT / "scripts/down")], check=False)
        return start()

    def _leave_out_what_cannot_be_measured(self, target: Target) -> None:
        for name, (scenario, _) in list(self.scenarios.items()):
            if not isinstance(target, NEEDS[scenario.needs]):
                self._leave_out(name, f"needs {'containers' if isinstance(target, Stack) else 'the stack'} at hand")
                del self.scenarios[name]
        if "wrk" not in target.tools and any(scenario.cross_check for scenario, _ in self.scenarios.values()):
            self._leave_out("cross-check", "needs wrk (apt-get install wrk)")
        if not self.scenarios:
            raise LoadError("nothing is left to be measured")

    def _check_endpoints(self, target: Target, generator: Generator) -> None:
        (told,) = generator.measure(
            {"missing": list(self.scenarios), "host": target.url(), "addresses": target.addresses(), "seconds": 0}
        )
        for sentence in told["endpoints"]:
            print(f"load: {sentence}")
        if told["endpoints"]:
            why = "this application is not the demonstration, or lacks endpoints that these scenarios need"
            raise EndpointError(f"{why}: name others, or change them (docs/load-tests.md, Your own application)")

    def _leave_out(self, what: str, why: str) -> None:
        self.left_out[what] = why
        print(f"load: {what} is left out: {why}")

    def _folder(self) -> Path:
        folder = RESULTS / datetime.datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
        folder.mkdir(parents=True)
        return folder

    def _declared(self) -> dict[str, object]:
        """Return what the results keep of the scenarios; a smoke test is judged by its failures alone."""
        declared = {
            name: declare(scenario, doc, points(scenario, self.size), judged=self.size != "smoke")
            for name, (scenario, doc) in self.scenarios.items()
        }
        return {"left_out": self.left_out, "scenarios": declared}

    def _measure(self, target: Target, generator: Generator, results: Results) -> None:
        chance = random.Random(self.seed)
        plans = {
            name: [planned for planned in plan(scenario, self.size, chance) if planned.tool in target.tools]
            for name, (scenario, _) in self.scenarios.items()
        }
        progress = Progress([planned for every in plans.values() for planned in every])
        for name, every in plans.items():
            scenario, _ = self.scenarios[name]
            for planned in every:
                tool = "" if planned.tool == "locust" else f", by {planned.tool}"
                progress.step(f"{name}: {planned.variant}, {planned.point:g} {scenario.axis}{tool}")
                baseline = fresh_memory(target) if planned.fresh and isinstance(target, Stack) else {}
                measurement = Measurement(target, generator, name, scenario, planned)
                cell = measurement.make(baseline, f"{self.seed}-{name}-{planned.repetition}")
                results.add(cell)
                for reason in cell["invalid"]:
                    print(f"load:      invalid: {reason}")
                if failures := all_failed(cell):
                    print(f"load:      every request failed: {failures}")
                if not target.answers():
                    raise LoadError("the stack no longer answers")
                disturbed = scenario.faults or cell.get("in_flight") or cell.get("generator", {}).get("wanted")
                if disturbed and isinstance(target, Stack):
                    target.settle()
                progress.stepped()
            if isinstance(target, Containers):
                target.end_balancers()


def fresh_memory(stack: Stack) -> dict[str, int]:
    """Restart the stack, and return each tier's memory without load, in bytes."""
    with ThreadPoolExecutor(1) as thread:  # which finishes even when interrupted, so the stack is never left half down
        thread.submit(stack.restart).result()
    stack.settle()
    return stack.memory()


def still_answers(target: Target) -> bool:
    """Tell whether the target is there; not if the engine that would know has ended."""
    try:
        return target.answers()
    except (DockerException, OSError):
        return False


def all_failed(cell: Cell) -> str:
    """Return what failed, and how often, if everything did; else an empty string."""
    series = cell.get("series", {}).values()
    if any(one["times"] for one in series):
        return ""
    return ", ".join(f"{what} ({count} times)" for one in series for what, count in one["failed"].items())
