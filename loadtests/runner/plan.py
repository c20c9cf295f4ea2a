"""What a run measures, in which order, and how long that takes."""

import importlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.scenario import Scenario, Variant
from users.streams import OPENED_A_SECOND, Stream

SCENARIOS = Path(__file__).parent.parent / "scenarios"
REPETITIONS = {"quick": 3, "full": 5, "smoke": 1}
OVERHEAD_SECONDS = 0.7  # per measurement: a process is forked, warms up, and reports
SETTLING_SECONDS = 2.0  # per measurement with streams: the stack notices that they have gone
RESTART_SECONDS = 10.0  # per measurement of memory: the stack is restarted


@dataclass(frozen=True)
class Planned:
    """A measurement to be made."""

    variant: str
    point: float
    repetition: int
    seconds: float  # of the measuring window
    streaming: float = 0.0  # seconds that its streams take to open and to end
    fresh: bool = False  # the stack is restarted first, so that the memory of streams can be measured
    tool: str = "locust"

    @property
    def around(self) -> float:
        """Return the seconds that it takes beyond its window and the overhead of every measurement."""
        return self.streaming + RESTART_SECONDS * self.fresh


def scenarios() -> dict[str, tuple[Scenario, str]]:
    """Import every scenario; return it with the first line of its docstring."""
    names = sorted(file.stem for file in SCENARIOS.glob("*.py") if file.stem != "__init__")
    modules = {name: importlib.import_module(f"scenarios.{name}") for name in names}
    found = {name: (module.SCENARIO, str(module.__doc__).strip().splitlines()[0]) for name, module in modules.items()}
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
    """Return how long each measuring window is."""
    if size == "smoke":
        shortest = scenario.seconds[0] if scenario.drawn == "streams" else 1.0  # long enough for an event per stream
        return max([shortest, *(second + 3 for second in scenario.faults.values())])
    return scenario.seconds[size == "full"]


def plan(scenario: Scenario, size: str, chance: random.Random) -> list[Planned]:
    """Return the scenario's measurements: each repetition has all of them, in a random order of its own."""
    planned: list[Planned] = []
    window, where = seconds(scenario, size), points(scenario, size)
    most = max(map(max, where.values())) if scenario.drawn == "streams" else None
    for repetition in range(REPETITIONS[size]):
        cells = [
            Planned(name, point, repetition, window, streaming(scenario.variants[name], point), point == most)
            for name, at in where.items()
            for point in at
        ]
        if scenario.cross_check:
            cells.append(Planned(*scenario.cross_check, repetition, window, tool="wrk"))
        planned += chance.sample(cells, len(cells))
    return planned


def streaming(variant: Variant, point: float) -> float:
    """Return the seconds that a variant's streams take to open and to end."""
    users = [users.at(point) for users in variant.users]
    count = sum(count for user, count, _ in users if issubclass(user, Stream))
    return count / OPENED_A_SECOND + (SETTLING_SECONDS if count else 0)


def listing() -> Iterator[str]:
    """Yield a line for each scenario."""
    for name, (scenario, doc) in scenarios().items():
        lengths = []
        for size in ("quick", "full"):
            planned = plan(scenario, size, random.Random(0))
            length = sum(one.seconds + one.around + OVERHEAD_SECONDS for one in planned)
            lengths.append(f"{length / 60:4.1f} min")
        yield f"{name:12} {lengths[0]}, --full {lengths[1]}   {doc}"
