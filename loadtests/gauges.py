"""What the users of a process count together, for the runner to look at while they run."""

from histogram import Histogram


class Gauges:
    """Streams that are open, users that were answered, requests in flight; and those of the measuring."""

    def __init__(self) -> None:
        self.open = self.answered = self.in_flight = 0
        self.over = False  # from then on nothing is sent any more
        self.begin = self.end = float("inf")  # of the measuring (perf_counter)
        self.offered = self.started = 0  # meanwhile: arrivals that were due; requests that were sent
        self.late = Histogram()  # how much later than due, ms


GAUGES = Gauges()
