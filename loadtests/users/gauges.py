"""What all users of a process count together; the generator reads it while they run."""

from users.histogram import Histogram


class Gauges:
    """Open streams, answered users, requests in flight; and arrivals within the measuring window."""

    def __init__(self) -> None:
        self.open = self.answered = self.in_flight = 0
        self.over = False  # once set, users send nothing more
        self.begin = self.end = float("inf")  # the measuring window (perf_counter)
        self.offered = self.started = 0  # within the window: arrivals that were due; requests that were sent
        self.late = Histogram()  # how late arrivals were sent, ms


GAUGES = Gauges()
