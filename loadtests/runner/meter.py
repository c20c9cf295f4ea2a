"""Reads the CPU time of the stack's processes while a measurement is made."""

import threading
import time
from typing import Self

import psutil


class Meter:
    """Reads the CPU time of each tier's processes five times a second, within a `with`.

    A container's output may come late on a busy machine, so the generator's clock says which readings count.
    """

    def __init__(self, processes: dict[str, list[psutil.Process]]) -> None:
        self.processes = processes
        self.readings: list[tuple[float, dict[str, float]]] = []
        self.ended = False  # whether a process has ended: what it used since the last reading is unknown
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._end.is_set() and not self.ended:
            try:
                self.readings.append((time.time(), {tier: cpu_seconds(many) for tier, many in self.processes.items()}))
            except psutil.Error:
                self.ended = True
            self._end.wait(0.2)

    def between(self, begin: float, end: float) -> dict[str, float]:
        """Return the CPU seconds that each tier used between two times of the clock; nothing if a process has ended."""
        if self.ended:
            return {}
        return {tier: self._at(tier, end) - self._at(tier, begin) for tier in self.processes}

    def _at(self, tier: str, when: float) -> float:
        """Return the tier's CPU time at `when`, between two readings by their distance."""
        after = next((index for index, (read, _) in enumerate(self.readings) if read >= when), len(self.readings) - 1)
        (early, before), (late, behind) = self.readings[max(0, after - 1)], self.readings[after]
        share = min(1.0, max(0.0, (when - early) / (late - early))) if late > early else 0.0
        return before[tier] + share * (behind[tier] - before[tier])


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU time that the processes have used since their start."""
    times = [process.cpu_times() for process in processes]
    return float(sum(time.user + time.system for time in times))
