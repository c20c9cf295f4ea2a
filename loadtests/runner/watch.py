"""Watches the generator's own process: its CPU time, the lag of its event loop, its wait for a core."""

import time
from pathlib import Path

import gevent

from users.histogram import Histogram


class Watch:
    """Watches from its creation until `stop`."""

    def __init__(self) -> None:
        self.lag = Histogram()
        self._began, self._cpu, self._waited = time.perf_counter(), time.process_time(), waited()
        self._greenlet = gevent.spawn(self._measure_lag)

    def _measure_lag(self) -> None:
        while True:
            due = time.perf_counter() + 0.01
            gevent.sleep(0.01)
            lag = max(0.0, time.perf_counter() - due)
            while lag >= 0:  # one sample for each time it should have woken up: a long stall is not one sample
                self.lag.record(lag * 1000)
                lag -= 0.01

    def stop(self) -> dict[str, float]:
        """Return the shares and the lag since the beginning."""
        self._greenlet.kill()
        took = time.perf_counter() - self._began
        return {
            "cpu": (time.process_time() - self._cpu) / took,
            "lag_p99_ms": self.lag.percentile(0.99) if self.lag else 0.0,
            "waited": (waited() - self._waited) / took,
        }


def waited() -> float:
    """Return the seconds that this thread was runnable without a core; 0 if the kernel does not say."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0
