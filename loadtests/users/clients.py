"""HTTP clients: a closed loop, which waits for each response, and an open loop, which does not.

They send prebuilt bytes and parse responses with geventhttpclient, like FastHttpUser, but take half its CPU time per
request. Unlike it, they never resend a request if its connection ends without a response.
"""

import itertools
import random
import time
from urllib.parse import urlsplit

import gevent
from gevent import socket
from geventhttpclient.response import HTTPParseError, HTTPSocketResponse
from locust import User, constant, task
from locust.exception import StopUser

from users.arrivals import poisson
from users.connections import connect
from users.gauges import GAUGES

TIMEOUT_SECONDS = 35.0  # over `timeout server`
IDLE_SECONDS = 1.5  # then a server may have closed the connection: gunicorn's default is 2 s, this HAProxy's 15
MOST_IN_FLIGHT = 4000  # per open-loop user; arrivals beyond it are dropped, which makes the measurement invalid

_numbers = itertools.count()


class StatusError(Exception):
    """The status was not 200."""


class Client(User):
    """Sends GET requests for `path` to `host`; if `host` lists several, separated by commas, users take turns."""

    abstract = True
    path = "/"
    keep_alive = True

    def on_start(self) -> None:
        """Build the request that this user sends every time."""
        hosts = (self.host or "").split(",")
        self.number = next(_numbers)
        self.url = urlsplit(hosts[self.number % len(hosts)])
        head = [f"GET {self.url.path}{self.path} HTTP/1.1", f"Host: {self.url.netloc}", "User-Agent: locust"]
        if not self.keep_alive:
            head.append("Connection: close")
        self.request = "\r\n".join([*head, "", ""]).encode()
        self.idle: list[tuple[float, socket.socket]] = []  # (idle since, connection), oldest first
        self.in_flight = 0

    def connection(self) -> socket.socket:
        """Return the most recently used connection, or a new one if that has been idle for too long."""
        while self.idle:
            since, connection = self.idle.pop()
            if time.perf_counter() - since < IDLE_SECONDS:
                return connection
            connection.close()
        return connect(self.url, TIMEOUT_SECONDS)

    def get(self, due: float | None = None) -> float:
        """Send the request and report its time since it was `due` (perf_counter); return how long to back off (s)."""
        began = time.perf_counter() if due is None else due
        error: Exception | None = None
        length = wait = 0
        self.in_flight += 1
        GAUGES.in_flight += 1
        GAUGES.started += GAUGES.begin <= began < GAUGES.end
        try:
            connection = self.connection()
            try:
                connection.sendall(self.request)
                response = HTTPSocketResponse(connection)
                length = len(response.read())
            except BaseException:
                connection.close()
                raise
            if not response.should_close():
                self.idle.append((time.perf_counter(), connection))
            if response.status_code != 200:
                error = StatusError(str(response.status_code))
                after = str(response.get("retry-after") or 0)
                wait = int(after) if after.isdecimal() else 1  # it may be a date
        except (OSError, HTTPParseError) as failure:
            error, wait = failure, 1
        finally:
            self.in_flight -= 1
            GAUGES.in_flight -= 1
        self.environment.events.request.fire(
            request_type="GET",
            name=self.path.partition("?")[0],
            response_time=(time.perf_counter() - began) * 1000,
            response_length=length,
            exception=error,
            context={"due": began},
        )
        return wait


class Closed(Client):
    """A closed loop: sends the next request after each response, so it slows down with its target.

    It shows how much a target can do. It hides what a stall does to clients that would have arrived meanwhile.
    """

    abstract = True
    wait_time = constant(0)

    def on_start(self) -> None:
        """Send the first request."""
        super().on_start()
        self.ask()
        GAUGES.answered += 1

    @task
    def ask(self) -> None:
        """Send one request. After a refusal back off for one to two times Retry-After, so that users spread out."""
        if GAUGES.over:
            raise StopUser
        if wait := self.get():
            gevent.sleep(wait * random.uniform(1, 2))


class Open(Client):
    """An open loop: requests arrive at random, `rate` a second on average, whatever the responses do.

    Times are taken from when a request was due, so a stall counts for every request that arrives during it.
    """

    abstract = True
    rate = 10.0
    seed = ""  # makes arrivals repeatable; without it they differ between users and between processes

    @task
    def arrive(self) -> None:
        """Send each request when it is due, for ever."""
        seed = f"{self.seed}-{self.number}" if self.seed else None
        for due in poisson(self.rate, time.perf_counter(), seed):
            if (early := due - time.perf_counter()) > 0:
                gevent.sleep(early)
            if GAUGES.over:
                raise StopUser
            counts = GAUGES.begin <= due < GAUGES.end
            GAUGES.offered += counts
            if self.in_flight >= MOST_IN_FLIGHT:
                continue
            gevent.spawn(self.get, due)
            if counts:
                GAUGES.late.record(max(0.0, time.perf_counter() - due) * 1000)
