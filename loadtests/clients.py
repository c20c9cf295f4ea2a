"""Locust users that send HTTP requests: as fast as they are answered, or whatever the answers do.

They send what was made once, and read with the parser of geventhttpclient, which is FastHttpUser's: half of its CPU
time for a request, and unlike it nothing is sent a second time where a connection ends without an answer.
"""

import functools
import itertools
import random
import ssl
import time
from urllib.parse import SplitResult, urlsplit

import gevent
from gevent import socket
from geventhttpclient.response import HTTPParseError, HTTPSocketResponse
from locust import User, constant, task
from locust.exception import StopUser

from arrivals import poisson
from gauges import GAUGES

TIMEOUT_SECONDS = 35.0  # HAProxy's own are shorter
IDLE_SECONDS = 1.5  # longer, and a server may have closed the connection: gunicorn's default is 2 s, our HAProxy's 15
MOST_IN_FLIGHT = 4000  # of one open-loop user; what is due beyond it is dropped, and voids the measurement

_numbers = itertools.count()
# Looked up once, as that blocks and is not to be measured; again where one does not answer.
_addresses: dict[tuple[str | None, int], list[tuple[str, int]]] = {}


class StatusError(Exception):
    """The answer was not 200."""


def connect(url: SplitResult, timeout: float) -> socket.socket:
    """Open a connection to one of the host's addresses, with TLS where it says https; `timeout` is in seconds."""
    secure = url.scheme == "https"
    where = (url.hostname, url.port or (443 if secure else 80))
    known = _addresses.get(where)
    try:
        connection = socket.create_connection(random.choice(known) if known else where, timeout)
    except OSError:
        _addresses.pop(where, None)
        raise
    if not known:
        found = socket.getaddrinfo(*where, connection.family, socket.SOCK_STREAM)
        _addresses[where] = [address[:2] for *_, address in found]
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not secure:
        return connection
    try:
        return tls().wrap_socket(connection, server_hostname=url.hostname)
    except BaseException:
        connection.close()
        raise


@functools.cache
def tls() -> ssl.SSLContext:
    """Return what connections with TLS have in common: to read the certificates that are trusted takes long."""
    return ssl.create_default_context()


class Client(User):
    """Sends GET requests for `path` to `host`, of which there may be several, separated by commas: to each in turn."""

    abstract = True
    path = "/"
    keep_alive = True

    def on_start(self) -> None:
        """Make the request that is to be sent over and over again."""
        hosts = (self.host or "").split(",")
        self.number = next(_numbers)
        self.url = urlsplit(hosts[self.number % len(hosts)])
        head = [f"GET {self.url.path}{self.path} HTTP/1.1", f"Host: {self.url.netloc}", "User-Agent: locust"]
        if not self.keep_alive:
            head.append("Connection: close")
        self.request = "\r\n".join([*head, "", ""]).encode()
        self.idle: list[tuple[float, socket.socket]] = []  # since when, the longest first
        self.in_flight = 0

    def connection(self) -> socket.socket:
        """Return the connection that was used last, or a new one where that was too long ago."""
        while self.idle:
            since, connection = self.idle.pop()
            if time.perf_counter() - since < IDLE_SECONDS:
                return connection
            connection.close()
        return connect(self.url, TIMEOUT_SECONDS)

    def get(self, due: float | None = None) -> float:
        """Send the request, and report its time since it was `due` (perf_counter). Return how long to wait then (s)."""
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
                answer = HTTPSocketResponse(connection)
                length = len(answer.read())
            except BaseException:
                connection.close()
                raise
            if not answer.should_close():
                self.idle.append((time.perf_counter(), connection))
            if answer.status_code != 200:
                error = StatusError(str(answer.status_code))
                after = str(answer.get("retry-after") or 0)
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
    """Asks again as soon as it is answered: a closed loop, which slows down with what it loads.

    It shows what a stack can do. It hides what a stall does to those who would have come meanwhile.
    """

    abstract = True
    wait_time = constant(0)

    def on_start(self) -> None:
        """Ask for the first time."""
        super().on_start()
        self.ask()
        GAUGES.answered += 1

    @task
    def ask(self) -> None:
        """Ask once; after a refusal wait for as long as Retry-After says, and up to as long again: not all together."""
        if GAUGES.over:
            raise StopUser
        if wait := self.get():
            gevent.sleep(wait * random.uniform(1, 2))


class Open(Client):
    """Stands for a crowd: requests arrive at `rate` a second, at random and whatever the answers do (open loop).

    Times are taken from when a request was meant to be sent, so that a stall counts for all who came during it.
    """

    abstract = True
    rate = 10.0
    seed = ""  # for arrivals that can be repeated; without one, those of no two users, or processes, are alike

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
