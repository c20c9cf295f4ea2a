"""Locust users that hold a stream, and report what its client notices.

Each reports, beside `connect`: `first event`; `delivery`, how late an event comes (event n exists at n x interval of
the clock); `lost`, numbers that were left out; `disconnect`, an end that the client did not ask for; `refused`, where
it could not be opened; `outage`, from its end to the next event; and a WebSocket also `echo`, a round trip from the
time at which it was meant to begin.
"""

import json
import random
import time
from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import urlsplit
from weakref import WeakSet

import gevent
import websocket
from geventhttpclient.response import HTTPParseError, HTTPSocketResponse
from locust import User, task

from clients import connect
from gauges import GAUGES

BACKOFF_SECONDS = (0.2, 5.0)  # the first wait before a reconnect, and the longest; each is random (full jitter)
CONNECT_SECONDS = 20.0
OPENED_A_SECOND = 500  # at random; HAProxy lets in 800 a second, the others wait: see haproxy.cfg


class EndError(Exception):
    """The other side ended the stream, or refused it."""


class LostError(Exception):
    """So many events were left out."""


class Stream(User):
    """Holds one stream, and opens it again whenever it ends."""

    abstract = True
    kind = ""
    path = ""
    interval_ms = 1000
    resumes = True  # at the event behind the last; else with those of the present
    ramp_seconds = 1.0  # Locust starts users in batches of a second; each waits for a part of this, so that none meet
    all: ClassVar[WeakSet["Stream"]] = WeakSet()  # those that run

    def on_start(self) -> None:
        """Wait for a random part of the ramp."""
        self.is_open, self.newest = False, -1  # the number of the newest event that need not come any more
        self.all.add(self)
        gevent.sleep(random.uniform(0, self.ramp_seconds))

    def overdue(self) -> int:
        """Return how many events have been due for longer than an interval, and have not come."""
        return max(0, self.present() - 1 - self.newest) if self.newest >= 0 else 0

    def present(self) -> int:
        """Return the number of the event that was due last."""
        return int(time.time() * 1000 / self.interval_ms)

    def opened(self, began: float) -> None:
        """Note that the stream is open; what is due from now on is to come."""
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
        """Hold the stream until it ends; then come back, later and later as long as that fails."""
        last: int | None = None
        failures, ended = 0, 0.0
        while True:
            began = time.perf_counter()
            self.is_open = False
            try:
                for number in self.numbers(last):
                    late = time.time() - number * self.interval_ms / 1000
                    if last is None:  # an event of before
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
            except (OSError, EndError, HTTPParseError, websocket.WebSocketException) as error:
                self.report("disconnect" if self.is_open else "refused", error=error)
                ended = ended or time.perf_counter()
            failures += 1
            first, longest = BACKOFF_SECONDS
            gevent.sleep(random.uniform(0, min(longest, first * 2**failures)))

    def numbers(self, last: int | None) -> Iterator[int]:
        """Open the stream behind event `last`, and yield the events' numbers as they come."""
        raise NotImplementedError


class EventStream(Stream):
    """Server-Sent Events, which resume by `Last-Event-ID`."""

    abstract = True
    kind = "SSE"

    def numbers(self, last: int | None) -> Iterator[int]:
        """See Stream. Read line by line: in blocks, as an HTTP client reads a body, an event waits for others."""
        url = urlsplit(self.host or "")
        resume = "" if last is None else f"Last-Event-ID: {last}\r\n"
        request = (
            f"GET {url.path}{self.path}?interval_ms={self.interval_ms} HTTP/1.1\r\nHost: {url.netloc}\r\n"
            f"Accept: text/event-stream\r\n{resume}\r\n"
        )
        began = time.perf_counter()
        connection = connect(url, CONNECT_SECONDS)
        try:
            connection.sendall(request.encode())
            answer = HTTPSocketResponse(connection, block_size=1024)
            if answer.status_code != 200:
                raise EndError(f"status {answer.status_code}")
            self.opened(began)
            connection.settimeout(15 + self.interval_ms / 1000)  # the services send a comment at least each 15 s
            while line := answer.readline(b"\n"):
                if line.startswith(b"id:"):
                    yield int(line[3:])
        finally:
            GAUGES.open -= self.is_open
            connection.close()


class WebSocket(Stream):
    """A WebSocket with numbered ticks, and echoes of its own."""

    abstract = True
    kind = "WS"
    resumes = False
    echo_seconds = 1.0

    def on_start(self) -> None:
        """See Stream. Ticks are numbered by the clock: with one interval for all, they would all be due at once."""
        super().on_start()
        self.interval_ms = round(self.interval_ms * random.uniform(0.9, 1.1))

    def numbers(self, last: int | None) -> Iterator[int]:
        """See Stream."""
        url = f"{(self.host or '').replace('http', 'ws', 1)}{self.path}?interval_ms={self.interval_ms}"
        began = time.perf_counter()
        connection = websocket.create_connection(
            url,
            socket=connect(urlsplit(self.host or ""), CONNECT_SECONDS),
            enable_multithread=False,
            skip_utf8_validation=True,
        )
        self.opened(began)
        connection.settimeout(15 + self.interval_ms / 1000)
        echoes = gevent.spawn(self.send_echoes, connection)
        try:
            while text := connection.recv():
                message = json.loads(text)
                if message["type"] == "tick":
                    yield message["n"]
                else:
                    self.report("echo", time.perf_counter() - float(message["data"]))
        finally:
            GAUGES.open -= 1
            echoes.kill()
            connection.shutdown()  # type: ignore[no-untyped-call]

    def send_echoes(self, connection: websocket.WebSocket) -> None:
        """Send the time at which each echo was meant to be sent; the reader notices where the connection is lost."""
        due = time.perf_counter() + random.uniform(0, self.echo_seconds)
        try:
            while True:
                gevent.sleep(max(0.0, due - time.perf_counter()))
                connection.send(repr(due))
                due += self.echo_seconds
        except (OSError, websocket.WebSocketException):
            return
