"""Injects a scenario's faults while it is measured."""

import threading
import time
from collections.abc import Mapping
from typing import Self

from runner.errors import LoadError
from targets.stack import Stack


class Faults:
    """Injects faults, each at its time after `begin`; leaving the `with` early skips the rest."""

    def __init__(self, stack: Stack, service: str, planned: Mapping[str, float]) -> None:
        self.stack, self.service, self.planned = stack, service, planned
        self.failed: Exception | None = None
        self.done: dict[str, float] = {}  # the injected ones, and at which second
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._inject)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.wait()

    def begin(self) -> None:
        """Start the clock."""
        self._thread.start()

    def wait(self) -> None:
        """Return when every killed or stopped replica has been started again; raise LoadError if that failed."""
        if self._thread.ident is not None:
            self._thread.join()
        if self.failed is not None:
            raise LoadError(f"a fault could not be injected: {self.failed}")

    def _inject(self) -> None:
        inject = {"kill": self.stack.kill, "drain": self.stack.drain}
        began = time.monotonic()
        for fault, after in self.planned.items():
            if self._end.wait(began + after - time.monotonic()):
                return
            self.done[fault] = time.monotonic() - began
            try:
                inject[fault](self.service)
            except Exception as error:  # noqa: BLE001 - without its fault the measurement is worthless
                self.failed = error
                return
