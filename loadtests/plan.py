"""What is to be measured, in which order, and how long it takes."""

import importlib
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scenario import Scenario, Variant
from streams import OPENED_A_SECOND, Stream

HERE = Path(__file__).parent
REPETITIONS = {"quick": 3, "full": 5, "smoke": 1}
OVERHEAD_SECONDS = 0.7  # of a measurement: a process is forked, warms up, and tells what it saw
SETTLING_SECONDS = 2.0  # of one with streams: the stack notices that they have gone
FRESH_SECONDS = 10.0  # of one whose memory is measured: the stack is started anew


@dataclass(frozen=True)
class Planned:
    """A measurement to be made."""

    variant: str
    point: float
    repetition: int
    seconds: float  # of measuring
    streaming: float = 0.0  # seconds that its streams take to open, and to go
    fresh: bool = False  # the memory that its streams take is measured, of a stack just started: none is used again
    tool: str = "locust"

    @property
    def around(self) -> float:
        """Return the seconds that it takes beside its measuring, and beside what all take."""
        return self.streaming + FRESH_SECONDS * self.fresh


def scenarios() -> dict[str, tuple[Scenario, str]]:
    """Import every scenario; return it with the first sentence of its docstring."""
    sys.path.insert(0, str(HERE / "scenarios"))
    modules = [importlib.import_module(file.stem) for file in sorted((HERE / "scenarios").glob("*.py"))]
    found = {module.__name__: (module.SCENARIO, str(module.__doc__).strip().splitlines()[0]) for module in modules}
    return dict(sorted(found.items(), key=lambda item: item[1][0].place))


def points(scenario: Scenario, size: str) -> dict[str, tuple[float, ...]]:
    """Return at which points each variant is measured."""
    chosen = scenario.all_points if size == "full" else scenario.points
    found = {
        name: variant.points or chosen
        for name, variant in scenario.variants.items()
        if size == "full" or not variant.only_full
    }
    return {name: at[:1] if size == "smoke" else at for name, at in found.items()}


def seconds(scenario: Scenario, size: str) -> float:
    """Return how long each measurement lasts."""
    if size == "smoke":
        shortest = scenario.seconds[0] if scenario.drawn == "streams" else 1.0  # with an event of each stream in it
        return max([shortest, *(second + 3 for second in scenario.faults.values())])
    return scenario.seconds[size == "full"]


def plan(scenario: Scenario, size: str, chance: random.Random) -> list[Planned]:
    """Return the measurements of a scenario: every repetition has all, each in an order of chance."""
    planned: list[Planned] = []
    lasts, where = seconds(scenario, size), points(scenario, size)
    most = max(map(max, where.values())) if scenario.drawn == "streams" else None
    for repetition in range(REPETITIONS[size]):
        cells = [
            Planned(name, point, repetition, lasts, streaming(scenario.variants[name], point), point == most)
            for name, at in where.items()
            for point in at
        ]
        if scenario.cross_check:
            cells.append(Planned(*scenario.cross_check, repetition, lasts, tool="wrk"))
        planned += chance.sample(cells, len(cells))
    return planned


def streaming(variant: Variant, point: float) -> float:
    """Return the seconds that a variant's streams take to open, and to go."""
    users = [users.at(point) for users in variant.users]
    count = sum(count for user, count, _ in users if issubclass(user, Stream))
    return count / OPENED_A_SECOND + (SETTLING_SECONDS if count else 0)


def listing() -> Iterator[str]:
    """Yield a line for each scenario."""
    for name, (scenario, doc) in scenarios().items():
        lengths = []
        for size in ("quick", "full"):
            cells = plan(scenario, size, random.Random(0))
            length = sum(cell.seconds + cell.around + OVERHEAD_SECONDS for cell in cells)
            lengths.append(f"{length / 60:4.1f} min")
        yield f"{name:12} {lengths[0]}, --full {lengths[1]}   {doc}"


class Progress:
    """Tells how far the run is, and how long it still takes."""

    def __init__(self, planned: list[Planned]) -> None:
        self.left, self.count, self.done = [cell.seconds + cell.around for cell in planned], len(planned), 0
        self.overhead, self.began = OVERHEAD_SECONDS, time.monotonic()

    def step(self, what: str) -> None:
        """Say what is measured now."""
        self.done += 1
        left = sum(self.left) + self.overhead * len(self.left)
        print(f"load: {self.done:3} of {self.count}, {left // 60:2.0f}:{left % 60:02.0f} left: {what}", flush=True)
        self.began = time.monotonic()

    def stepped(self) -> None:
        """Learn from the measurement that has ended what the next will take."""
        took = time.monotonic() - self.began - self.left.pop(0)
        self.overhead += (took - self.overhead) / min(10, self.done + 1)
