"""What the users of a process count together, for the runner to look at while they run."""

from histogram import Histogram


class Gauges:
    """Connections that are open; and of the arrivals due from `begin` to `end`, how many were sent, and how late."""

    def __init__(self) -> None:
        self.open = 0
        self.begin = self.end = float("inf")  # perf_counter
        self.offered = self.started = 0
        self.late = Histogram()


GAUGES = Gauges()
