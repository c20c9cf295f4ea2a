"""What a deployment needs and no WSGI application should have to know.

`host()` loads the callable that `WSGI_APP` names and wraps it with liveness, readiness, the proxy's
view of the client (address, scheme, prefix), a bound on event streams and their clean end at a drain.
The application stays a plain WSGI callable; replace it and leave this file alone.
"""

import contextvars
import importlib
import ipaddress
import itertools
import json
import logging
import mmap
import os
import random
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gunicorn.http.errors import ParseException

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

DRAIN_SECONDS = float(os.environ.get("DRAIN_SECONDS", "5"))
STREAM_LIMIT = int(os.environ.get("WSGI_STREAMS", "4"))
TRUSTED = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1")
LINGER_SECONDS = 2.0
EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")  # an event stream may be cut only behind one of these

# Made before gunicorn forks, so its master and its worker share it: one byte, 1 while draining, and
# behind it why the application could not be loaded.
_shared = mmap.mmap(-1, 4096)
_request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")


def drain() -> None:
    """Make readiness answer 404, so that HAProxy sends no new work, and end the event streams."""
    _shared[0] = 1


def draining() -> bool:
    """Tell whether `drain()` was called in this process or its master."""
    return _shared[0] == 1


class JSONFormatter(logging.Formatter):
    """One JSON object a line, with the id of the request that was being served."""

    def format(self, record: logging.LogRecord) -> str:
        """Return `record` as a line: time (UTC), level, logger, message, and what else is known."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := _request_id.get():
            line["request_id"] = request_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


@lru_cache(maxsize=1024)
def trusted(peer: str) -> bool:
    """Tell whether `X-Forwarded-*` may be believed from the address `peer` (FORWARDED_ALLOW_IPS)."""
    if TRUSTED == "*":
        return True
    address = ipaddress.ip_address(peer)
    return any(address in ipaddress.ip_network(network.strip()) for network in TRUSTED.split(","))


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
        _shared[1 : 1 + len(line)] = line
        raise SystemExit(4) from None
    return loaded


def load_failure() -> str:
    """Return why the application could not be loaded, in one line, or an empty string."""
    return " ".join(_shared[1:].rstrip(b"\0").decode(errors="replace").split())


class StreamLimitError(Exception):
    """Every place for an event stream is taken."""


class Body:
    """The chunks of an answer; an event stream gives its place back when it ends or is drained."""

    def __init__(
        self,
        chunks: Iterable[bytes],
        body: Iterable[bytes],
        environ: "WSGIEnvironment",
        places: threading.Semaphore | None,
    ) -> None:
        self._chunks, self._body, self._environ, self._places = iter(chunks), body, environ, places
        self._between_events = False

    def __iter__(self) -> "Body":
        return self

    def __next__(self) -> bytes:
        if self._places is None:
            return next(self._chunks)
        if self._between_events and draining():
            self._chunks = iter(())
            self._between_events = False
            return b"retry: %d\n\n" % random.randint(200, 2000)
        chunk = next(self._chunks)
        self._between_events = chunk.endswith(EVENT_ENDS)
        return chunk

    def close(self) -> None:
        """Close the application's iterable, as PEP 3333 asks, and free the place."""
        try:
            getattr(self._body, "close", lambda: None)()
        finally:
            if self._places is not None:
                self._places.release()
                self._places = None
        linger(self._environ)


def linger(environ: "WSGIEnvironment") -> None:
    """Read on for a while after an answer that came before the end of the request's body.

    A connection that is closed with unread bytes is reset, and a reset takes the answer with it.
    """
    connection = environ["gunicorn.socket"]
    end = time.monotonic() + LINGER_SECONDS
    try:
        connection.settimeout(LINGER_SECONDS)
        while time.monotonic() < end and environ["wsgi.input"].read(65536):
            pass
        connection.setblocking(True)
    except (OSError, ParseException):
        pass  # the other side has closed, or what it sends is no body: gunicorn closes


class Host:
    """A WSGI callable around a WSGI callable; see the module's docstring."""

    def __init__(self, application: "WSGIApplication") -> None:
        self.application = application
        self._places = threading.BoundedSemaphore(STREAM_LIMIT)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer the health checks, and everything else through the application."""
        path = environ["PATH_INFO"]
        if path in ("/livez", "/readyz"):
            return health(path, start_response)
        adopt_proxy_headers(environ)

        places: threading.Semaphore | None = None
        started = False

        def watch(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
            nonlocal places, started
            started = True
            if places is None and any(
                name.lower() == "content-type" and value.startswith("text/event-stream") for name, value in headers
            ):
                if not self._places.acquire(blocking=False):
                    raise StreamLimitError
                places = self._places
            return start_response(status, headers, *exc_info)

        try:
            body = self.application(environ, watch)
            chunks = None
            if not started:  # a generator application calls start_response at its first chunk
                chunks = iter(body)
                chunks = itertools.chain([next(chunks, b"")], chunks)
        except StreamLimitError:
            return busy(start_response)
        method = environ["REQUEST_METHOD"]
        if chunks is None and places is None and method == "GET":
            return body
        if places is not None and method == "HEAD":
            chunks = iter(())  # nothing would ever be written, so nothing would tell that the client left
        return Body(body if chunks is None else chunks, body, environ, places)


def adopt_proxy_headers(environ: "WSGIEnvironment") -> None:
    """Put the client's address, scheme and prefix where applications look for them (PEP 3333)."""
    _request_id.set(environ.get("HTTP_X_REQUEST_ID", ""))
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
