"""The base of users that hold a stream: it reconnects with backoff, and reports what a client notices.

Besides `connect` it reports: `first event`; `delivery`, how late an event comes (event n is due at n x interval of the
clock); `lost`, skipped event numbers; `disconnect`, an end that the client did not ask for; `refused`, a stream that
could not be opened; `outage`, from a disconnect to the next event.
"""

import random
import time
from collections.abc import Iterator
from typing import ClassVar
from weakref import WeakSet

import gevent
from geventhttpclient.response import HTTPParseError
from locust import User, task
from websocket import WebSocketException

from users.gauges import GAUGES

BACKOFF_SECONDS = (0.2, 5.0)  # the first limit and the last; each wait is random up to its limit (full jitter)
CONNECT_SECONDS = 20.0
OPENED_A_SECOND = 500  # at random; HAProxy admits 800 a second and delays the rest: see haproxy.cfg


class EndError(Exception):
    """The server ended the stream, or refused it."""


class LostError(Exception):
    """Events were skipped; the message is how many."""


class Stream(User):
    """Holds one stream, and opens it again whenever it ends."""

    abstract = True
    kind = ""
    path = ""
    interval_ms = 1000
    resumes = True  # after the last event received; otherwise with the current one
    ramp_seconds = 1.0  # Locust starts users in one-second batches; a random part of this spreads them
    all: ClassVar[WeakSet["Stream"]] = WeakSet()  # those that run

    def on_start(self) -> None:
        """Wait for a random part of the ramp."""
        self.is_open, self.newest = False, -1  # the newest event that is no longer expected
        self.all.add(self)
        gevent.sleep(random.uniform(0, self.ramp_seconds))

    def overdue(self) -> int:
        """Return how many events are more than an interval late."""
        return max(0, self.present() - 1 - self.newest) if self.newest >= 0 else 0

    def present(self) -> int:
        """Return the number of the event that was due last."""
        return int(time.time() * 1000 / self.interval_ms)

    def opened(self, began: float) -> None:
        """Note that the stream is open; events are expected from now on."""
        self.report("connect", time.perf_counter() - began)
        self.is_open = True
        GAUGES.open += 1
        if self.newest < 0 or not self.resumes:
            self.newest = self.present()

    def report(self, name: str, seconds: float = 0, error: Exception | None = None) -> None:
        """Report one observation to Locust."""
        self.environment.events.request.fire(
            request_type=self.kind,
            name=name,
            response_time=seconds * 1000,
            response_length=0,
            exception=error,
            context={},
        )

    @task
    def hold(self) -> None:
        """Hold the stream until it ends, then reconnect, waiting longer after each failure."""
        last: int | None = None
        failures, ended = 0, 0.0
        while True:
            began = time.perf_counter()
            self.is_open = False
            try:
                for number in self.numbers(last):
                    late = time.time() - number * self.interval_ms / 1000
                    if last is None:  # it was due before the stream was open
                        self.report("first event", time.perf_counter() - began)
                    else:
                        self.report("delivery", max(0.0, late))
                    if ended:
                        self.report("outage", time.perf_counter() - ended)
                    if last is not None and number > last + 1 and (self.resumes or not ended):
                        self.report("lost", error=LostError(str(number - last - 1)))
                    last, failures, ended = number, 0, 0.0
                    self.newest = max(self.newest, number)
                raise EndError("the stream ended")
            except (OSError, EndError, HTTPParseError, WebSocketException) as error:
                self.report("disconnect" if self.is_open else "refused", error=error)
                ended = ended or time.perf_counter()
            failures += 1
            first, longest = BACKOFF_SECONDS
            gevent.sleep(random.uniform(0, min(longest, first * 2**failures)))

    def numbers(self, last: int | None) -> Iterator[int]:
        """Open the stream after event `last`, and yield the numbers of events as they come."""
        raise NotImplementedError
