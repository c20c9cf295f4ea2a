"""Tells how far a run is, and how long it will still take."""

import time

from runner.plan import OVERHEAD_SECONDS, Planned


class Progress:
    """Counts measurements, and learns from each how much longer than planned they take."""

    def __init__(self, planned: list[Planned]) -> None:
        self.left, self.count, self.done = [one.seconds + one.around for one in planned], len(planned), 0
        self.overhead, self.began = OVERHEAD_SECONDS, time.monotonic()

    def step(self, what: str) -> None:
        """Print what is measured now."""
        self.done += 1
        left = sum(self.left) + self.overhead * len(self.left)
        print(f"load: {self.done:3} of {self.count}, {left // 60:2.0f}:{left % 60:02.0f} left: {what}", flush=True)
        self.began = time.monotonic()

    def stepped(self) -> None:
        """Learn from the measurement that has ended how long the next ones will take."""
        took = time.monotonic() - self.began - self.left.pop(0)
        self.overhead += (took - self.overhead) / min(10, self.done + 1)
