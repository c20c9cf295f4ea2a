"""Records what Locust's users report within the measuring window."""

import time
from collections import Counter, defaultdict
from typing import Any

from users.histogram import Histogram


class Recorder:
    """Times and failures, in all and step by step. Listens to Locust's `request` event."""

    def __init__(self, step: float) -> None:
        self.step = step  # of the timeline, seconds
        self.begin = self.end = float("inf")  # the measuring window (perf_counter)
        self.times: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.failures: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.steps: defaultdict[int, defaultdict[str, Histogram]] = defaultdict(lambda: defaultdict(Histogram))
        self.failed_steps: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.finished = 0  # requests of the window that were answered, or failed

    def __call__(
        self,
        request_type: str,
        name: str,
        response_time: float,
        exception: Exception | None,
        context: dict[str, Any],
        **_: Any,
    ) -> None:
        """Record a request by when it was due, or what a stream reports by the present time."""
        when = context.get("due") or time.perf_counter()
        if not self.begin <= when < self.end:
            return
        self.finished += "due" in context
        series = f"{request_type} {name}"
        step = int((when - self.begin) / self.step)
        if exception is None:
            self.times[series].record(response_time)
            self.steps[step][request_type].record(response_time)
        else:
            self.failures[series][f"{type(exception).__name__} {exception}"[:100]] += 1
            self.failed_steps["requests" if request_type == "GET" else "streams"][step] += 1

    def series(self) -> dict[str, Any]:
        """Return the times and failures of each series, ready for JSON."""
        return {
            name: {"times": self.times[name].pairs(), "failed": dict(self.failures[name])}
            for name in sorted({*self.times, *self.failures})
        }

    def timeline(self, seconds: float, opened: list[int]) -> dict[str, list[Any]]:
        """Return what happened in each step; `opened` is how many streams were open at its beginning."""
        steps = range(round(seconds / self.step))
        answered = [self.steps[step]["GET"] for step in steps]
        return {
            "seconds": [step * self.step for step in steps],
            "open": [*opened, *opened[-1:] * len(steps)][: len(steps)],
            "failed": [self.failed_steps["requests"][step] for step in steps],
            "ended": [self.failed_steps["streams"][step] for step in steps],
            "answered": [times.total() for times in answered],
            "p99": [times.percentile(0.99) if times else None for times in answered],
        }
