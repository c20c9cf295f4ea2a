"""What a deployment needs and no WSGI application should have to know.

`host()` loads the callable that `WSGI_APP` names and wraps it with liveness, readiness, the proxy's
view of the client (address, scheme, prefix), a bound on event streams and their clean end at a drain.
The application stays a plain WSGI callable; replace it and leave this file alone.
"""

import importlib
import ipaddress
import itertools
import json
import logging
import mmap
import os
import random
import re
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jsonlog

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

DRAIN_SECONDS = float(os.environ.get("DRAIN_SECONDS", "5"))
STREAM_LIMIT = int(os.environ.get("WSGI_STREAMS", "2"))
_allowed = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1").replace(" ", "").split(",")
TRUSTED = None if "*" in _allowed else [ipaddress.ip_network(network, strict=False) for network in _allowed if network]
HANDOVER_SECONDS = 2.0  # two health checks of HAProxy's: who is sent away earlier comes back to this replica
BETWEEN = b"\n\n"  # a blank line, behind which an event stream may be cut
BLANK_LINE_AND_COMMENTS = re.compile(rb"(?:\n\n|\r\n\r\n|\r\r)(?::[^\r\n]*(?:\r\n|\n|\r))*\Z")

# Made before gunicorn forks, so its master and its worker share it: when the drain began (a double, seconds of
# the monotonic clock, 0 for never), and behind it why the application could not be loaded.
_shared = mmap.mmap(-1, 4096)
_CAUSE = struct.calcsize("d")


def drain() -> None:
    """Make readiness answer 404, so that HAProxy sends no new work, and end the event streams."""
    struct.pack_into("d", _shared, 0, time.monotonic())


def draining() -> bool:
    """Tell whether `drain()` was called in this process or its master."""
    return drained_for() > 0


def drained_for() -> float:
    """Return the seconds since `drain()` was called in this process or its master, 0 before."""
    (began,) = struct.unpack_from("d", _shared)
    return time.monotonic() - began if began else 0


@lru_cache(maxsize=1024)
def trusted(peer: str) -> bool:
    """Tell whether `X-Forwarded-*` may be believed from the address `peer` (FORWARDED_ALLOW_IPS)."""
    return TRUSTED is None or any(ipaddress.ip_address(peer) in network for network in TRUSTED)


def load(variable: str, default: str) -> Any:
    """Import the callable that the environment variable names as `package.module:callable`.

    Where it does not import, print the traceback, keep one line with the variable and the cause for
    `load_failure()`, and raise SystemExit(4), gunicorn's status for an application that does not load.
    """
    target = os.environ.get(variable) or default
    module, _, name = target.partition(":")
    try:
        loaded: Any = importlib.import_module(module)
        for attribute in (name or "application").split("."):
            loaded = getattr(loaded, attribute)
        if not callable(loaded):
            raise TypeError(f"{target} is a {type(loaded).__name__}, which is not callable")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever an import may raise
        traceback.print_exc()
        line = f"{variable}={target} cannot be served: {type(error).__name__}: {error}".encode()[:4000]
        _shared[_CAUSE : _CAUSE + len(line)] = line
        raise SystemExit(4) from None
    return loaded


def load_failure() -> str:
    """Return why the application could not be loaded, in one line, or an empty string."""
    return " ".join(_shared[_CAUSE:].rstrip(b"\0").decode(errors="replace").split())


class ApplicationError(Exception):
    """The application raised what means something else to gunicorn: OSError (a full disk) or SystemExit."""


class RefusedError(Exception):
    """The application writes to a stream for which there is no place."""


class Errors:
    """`wsgi.errors`: its lines go into the log, past `logging` (whose handlers may write here), and wait for nobody."""

    def write(self, text: str) -> int:
        """Log each line of `text`."""
        for line in filter(str.strip, text.splitlines()):
            record = {"name": "wsgi.errors", "levelno": logging.ERROR, "levelname": "ERROR", "msg": line}
            jsonlog.handler.handle(logging.makeLogRecord(record))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Log each of the lines."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Do nothing: what is written has been logged."""


class Begun:
    """A body whose first chunk was taken already."""

    def __init__(self, first: bytes, rest: Iterator[bytes], body: Iterable[bytes]) -> None:
        self._chunks, self._body = itertools.chain([first], rest), body

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except (OSError, SystemExit) as error:
            raise ApplicationError(str(error)) from error

    def close(self) -> None:
        """Close the application's iterable, as PEP 3333 asks."""
        close(self._body)


class EventStream:
    """A body that holds a thread for long: one of the places for such, until it ends or is drained."""

    def __init__(self, body: Iterable[bytes], places: threading.Semaphore) -> None:
        self._body, self._places = body, places
        self._ends_after = random.uniform(min(HANDOVER_SECONDS, DRAIN_SECONDS / 2), DRAIN_SECONDS * 0.9)

    def __iter__(self) -> Iterator[bytes]:
        tail = BETWEEN
        for chunk in self._body:
            yield chunk
            tail = last_of(tail, chunk)
            if drained_for() > self._ends_after and tail == BETWEEN:
                yield b"retry: %d\n\n" % random.randint(200, 2000)
                return

    def close(self) -> None:
        """Close the application's iterable, as PEP 3333 asks, and give the place to another stream."""
        try:
            close(self._body)
        finally:
            self._places.release()


def close(body: Iterable[bytes]) -> None:
    """Call the iterable's `close`, if it has one."""
    getattr(body, "close", lambda: None)()


class Host:
    """A WSGI callable around a WSGI callable; see the module's docstring."""

    def __init__(self, application: "WSGIApplication") -> None:
        self.application = application
        self._places = threading.BoundedSemaphore(STREAM_LIMIT)
        self._errors = Errors()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer the health checks, and everything else through the application."""
        path = environ["PATH_INFO"]
        if path in ("/livez", "/readyz"):
            return health(path, start_response)
        adopt_proxy_headers(environ)
        environ["wsgi.errors"] = self._errors

        started = refused = False
        places: threading.Semaphore | None = None

        def watch(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
            nonlocal started, refused, places
            started = True
            if places is None and is_event_stream(headers):
                refused = refused or not self._places.acquire(blocking=False)
                places = None if refused else self._places
            if refused:
                return refuse
            return start_response(status, headers, *exc_info)

        body: Iterable[bytes] = ()
        try:
            body = self.application(environ, watch)
            # A generator application calls start_response at its first chunk, and any lazy body may fail there.
            if not started or not (refused or isinstance(body, (list, tuple, environ["wsgi.file_wrapper"]))):
                chunks = iter(body)
                body = Begun(next(chunks, b""), chunks, body)
        except BaseException as error:
            try:
                close(body)
            finally:
                if places is not None:
                    places.release()
            if refused:
                return busy(start_response)
            if isinstance(error, (OSError, SystemExit)):  # to gunicorn a client who left, or its own end: no answer
                raise ApplicationError(str(error)) from error
            raise
        if refused:
            close(body)
            return busy(start_response)
        if places is None:
            return body
        stream = EventStream(body, places)
        if environ["REQUEST_METHOD"] == "HEAD":  # nothing is written to it, so nothing would tell that the client left
            stream.close()
            return ()
        return stream


def last_of(tail: bytes, chunk: bytes) -> bytes:
    """Return the end of an event stream that went on with `chunk`: BETWEEN where it is between two events.

    That is behind a blank line, and any comments that follow it: they keep a connection alive.
    """
    tail = (tail + chunk[-256:])[-256:]
    return BETWEEN if BLANK_LINE_AND_COMMENTS.search(tail) else tail


def is_event_stream(headers: list[tuple[str, str]]) -> bool:
    """Tell whether the answer with these headers is Server-Sent Events."""
    return any(name.lower() == "content-type" and value.startswith("text/event-stream") for name, value in headers)


def adopt_proxy_headers(environ: "WSGIEnvironment") -> None:
    """Put the client's address, scheme and prefix where applications look for them (PEP 3333)."""
    jsonlog.request_id.set(environ.get("HTTP_X_REQUEST_ID", ""))
    if not trusted(environ.get("REMOTE_ADDR", "")):
        return
    if client := environ.get("HTTP_X_FORWARDED_FOR"):
        environ["REMOTE_ADDR"] = client.rpartition(",")[2].strip()
        environ.pop("REMOTE_PORT", None)
    environ["wsgi.url_scheme"] = environ.get("HTTP_X_FORWARDED_PROTO", environ["wsgi.url_scheme"])
    environ["SCRIPT_NAME"] = environ.get("HTTP_X_FORWARDED_PREFIX", environ.get("SCRIPT_NAME", ""))


def health(path: str, start_response: "StartResponse") -> Iterable[bytes]:
    """Answer /livez with 200, and /readyz with 200 or, while draining, 404 (HAProxy's disable-on-404)."""
    away = path == "/readyz" and draining()
    body = b"draining\n" if away else b"ok\n"
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    start_response("404 Not Found" if away else "200 OK", headers)
    return [body]


def refuse(data: bytes) -> object:
    """Stand for PEP 3333's `write` where a stream has no place: raise RefusedError."""
    raise RefusedError(f"{len(data)} bytes for a stream that has no place")


def busy(start_response: "StartResponse") -> Iterable[bytes]:
    """Answer 503: a stream holds a thread, and those that may be held are."""
    detail = f"this replica holds its {STREAM_LIMIT} event streams already"
    problem = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": detail}
    body = json.dumps(problem).encode()
    headers = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body))), ("Retry-After", "2")]
    start_response("503 Service Unavailable", headers)
    return [body]


def host() -> Host:
    """Load the application that `WSGI_APP` names (default: the demonstration) and wrap it."""
    return Host(load("WSGI_APP", "app:app"))
