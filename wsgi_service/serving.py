"""Everything that a deployment needs and a WSGI application should not have to know.

`host()` loads the callable in `WSGI_APP` and adds liveness, readiness, the client's address, scheme and
prefix as the proxy sees them, the length of every body, a limit on event streams, and their clean end in a
drain. The application stays a plain WSGI callable: replace it and leave this file alone.
"""

import importlib
import inspect
import ipaddress
import itertools
import json
import logging
import mmap
import os
import random
import re
import struct
import tempfile
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
BODY_LIMIT = 16 * 1024 * 1024  # bytes: HAProxy's limit for bodies of a declared length
SPOOL_BYTES = 1024 * 1024  # of a body of unknown length stay in memory; more go to a file in TEMPORARY
TEMPORARY = tempfile.gettempdir()  # found before it may be full: Python then says that there is none
STREAM_LIMIT = int(os.environ.get("WSGI_STREAMS", "2"))
_allowed = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1").replace(" ", "").split(",")
TRUSTED = None if "*" in _allowed else [ipaddress.ip_network(network, strict=False) for network in _allowed if network]
HANDOVER_SECONDS = 2.0  # two of HAProxy's health checks; before that, clients may reconnect to this replica
BETWEEN = b"\n\n"  # a blank line ends an event, so the stream may end after it
BLANK_LINE_AND_COMMENTS = re.compile(rb"(?:\n\n|\r\n\r\n|\r\r)(?::[^\r\n]*(?:\r\n|\n|\r))*\Z")

# Created before gunicorn forks, so master and worker share it: the time when the drain began (a double, monotonic
# clock, 0 for never), followed by the reason why the application failed to load.
_shared = mmap.mmap(-1, 4096)
_CAUSE = struct.calcsize("d")


def drain() -> None:
    """Make /readyz return 404, so that HAProxy sends no new requests, and end the event streams."""
    struct.pack_into("d", _shared, 0, time.monotonic())


def draining() -> bool:
    """Return whether `drain()` was called in this process or its master."""
    return drained_for() > 0


def drained_for() -> float:
    """Return the seconds since `drain()` was called in this process or its master, or 0 if it was not."""
    (began,) = struct.unpack_from("d", _shared)
    return time.monotonic() - began if began else 0


@lru_cache(maxsize=1024)
def trusted(peer: str) -> bool:
    """Return whether to trust `X-Forwarded-*` from the address `peer` (FORWARDED_ALLOW_IPS).

    The empty address is a Unix socket's, and the rights of its file say who may connect.
    """
    return TRUSTED is None or not peer or any(ipaddress.ip_address(peer) in network for network in TRUSTED)


def load(variable: str, default: str) -> Any:
    """Import the callable named in an environment variable as `package.module:callable`.

    If the import fails, print the traceback, keep one line with the variable and the cause for
    `load_failure()`, and raise SystemExit(4), gunicorn's status for an application that fails to load.
    """
    target = os.environ.get(variable) or default
    module, _, name = target.partition(":")
    try:
        loaded: Any = importlib.import_module(module)
        for attribute in (name or "application").split("."):
            loaded = getattr(loaded, attribute)
        if not callable(loaded):
            raise TypeError(f"{target} is a {type(loaded).__name__}, which is not callable")
        if takes(loaded, 3) and not takes(loaded, 2):
            raise TypeError("it takes three arguments, as an ASGI application does; name it in ASGI_APP")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an import may raise anything
        traceback.print_exc()
        line = f"{variable}={target} cannot be served: {type(error).__name__}: {error}".encode()[:4000]
        _shared[_CAUSE : _CAUSE + len(line)] = line
        raise SystemExit(4) from None
    return loaded


def takes(function: Any, count: int) -> bool:
    """Return whether it can be called with so many positional arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # a builtin, which does not tell
        pass
    return True


def load_failure() -> str:
    """Return in one line why the application failed to load, or an empty string."""
    return " ".join(_shared[_CAUSE:].rstrip(b"\0").decode(errors="replace").split())


class ApplicationError(Exception):
    """The application raised OSError (a full disk, say) or SystemExit, which gunicorn would misread."""


class RefusedError(Exception):
    """The application wrote to a stream that was refused."""


class Errors:
    """`wsgi.errors`: logs each line without blocking. It bypasses `logging`, whose handlers may write here."""

    def write(self, text: str) -> int:
        """Log each line of `text`."""
        for line in filter(str.strip, text.splitlines()):
            record = {"name": "wsgi.errors", "levelno": logging.ERROR, "levelname": "ERROR", "msg": line}
            jsonlog.handler.handle(logging.makeLogRecord(record))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Log each line."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Do nothing: every line has been logged already."""


class Begun:
    """A body whose first chunk has been read already."""

    def __init__(self, first: bytes, rest: Iterator[bytes], body: Iterable[bytes]) -> None:
        self._chunks, self._body = itertools.chain([first], rest), body

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except (OSError, SystemExit) as error:
            raise ApplicationError(str(error)) from error

    def close(self) -> None:
        """Close the application's iterable, as PEP 3333 requires."""
        close(self._body)


class EventStream:
    """An event stream, which holds a thread and one of the slots until it ends or the replica drains."""

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
        """Close the application's iterable, as PEP 3333 requires, and release the slot."""
        try:
            close(self._body)
        finally:
            self._places.release()


def close(body: Iterable[bytes]) -> None:
    """Call the iterable's `close`, if it has one."""
    getattr(body, "close", lambda: None)()


class Host:
    """A WSGI callable that wraps the application; see the module's docstring."""

    def __init__(self, application: "WSGIApplication") -> None:
        self.application = application
        self._places = threading.BoundedSemaphore(STREAM_LIMIT)
        self._errors = Errors()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer health checks here; pass everything else to the application."""
        path = environ["PATH_INFO"]
        if path in ("/livez", "/readyz"):
            return health(path, start_response)
        adopt_proxy_headers(environ)
        environ["wsgi.errors"] = self._errors
        if "HTTP_TRANSFER_ENCODING" in environ and (problem := measure_body(environ)):
            return refused_with(start_response, *problem)

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
            # A generator calls start_response when its first chunk is read, and any lazy body may fail there.
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
            if isinstance(error, (OSError, SystemExit)):  # gunicorn would see a disconnect or shutdown
                raise ApplicationError(str(error)) from error
            raise
        if refused:
            close(body)
            return busy(start_response)
        if places is None:
            return body
        stream = EventStream(body, places)
        if environ["REQUEST_METHOD"] == "HEAD":  # nothing is written, so a disconnect would go unnoticed
            stream.close()
            return ()
        return stream


def last_of(tail: bytes, chunk: bytes) -> bytes:
    """Return the end of an event stream after `chunk`, or BETWEEN if the stream is between two events.

    It is between two events after a blank line and any comments (heartbeats) that follow.
    """
    tail = (tail + chunk[-256:])[-256:]
    return BETWEEN if BLANK_LINE_AND_COMMENTS.search(tail) else tail


def is_event_stream(headers: list[tuple[str, str]]) -> bool:
    """Return whether a response with these headers is Server-Sent Events."""
    return any(name.lower() == "content-type" and value[:17].lower() == "text/event-stream" for name, value in headers)


def adopt_proxy_headers(environ: "WSGIEnvironment") -> None:
    """Set the client's address, scheme and prefix where applications expect them (PEP 3333).

    The headers are taken out, since an application that reads them as well would adopt them twice.
    """
    jsonlog.request_id.set(environ.get("HTTP_X_REQUEST_ID", ""))
    if not trusted(environ.get("REMOTE_ADDR", "")):
        return
    if client := environ.pop("HTTP_X_FORWARDED_FOR", ""):
        environ["REMOTE_ADDR"] = client.rpartition(",")[2].strip()
        environ.pop("REMOTE_PORT", None)
    environ["wsgi.url_scheme"] = environ.pop("HTTP_X_FORWARDED_PROTO", environ["wsgi.url_scheme"])
    environ["SCRIPT_NAME"] = environ.pop("HTTP_X_FORWARDED_PREFIX", environ.get("SCRIPT_NAME", ""))


def measure_body(environ: "WSGIEnvironment") -> tuple[str, str] | None:
    """Read a body of unknown length, and hand it on with its length; return a status and a detail if that fails.

    PEP 3333 has no body without CONTENT_LENGTH, and most frameworks take it for empty.
    """
    body = tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=TEMPORARY)  # noqa: SIM115 - the application reads it
    size = 0
    try:
        while chunk := environ["wsgi.input"].read(65536):
            if (size := size + len(chunk)) > BODY_LIMIT:
                return "413 Content Too Large", f"the body must not exceed {BODY_LIMIT} bytes"
            body.write(chunk)
        body.seek(0)
    except OSError as error:
        if error.errno:  # the replica's: its /tmp is full
            raise ApplicationError(str(error)) from error
        return "400 Bad Request", "the body ended early"
    del environ["HTTP_TRANSFER_ENCODING"]
    environ["CONTENT_LENGTH"], environ["wsgi.input"] = str(size), body
    return None


def health(path: str, start_response: "StartResponse") -> Iterable[bytes]:
    """Return 200, or 404 for /readyz while draining (HAProxy's disable-on-404)."""
    away = path == "/readyz" and draining()
    body = b"draining\n" if away else b"ok\n"
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    start_response("404 Not Found" if away else "200 OK", headers)
    return [body]


def refuse(data: bytes) -> object:
    """Replace PEP 3333's `write` for a refused stream: raise RefusedError."""
    raise RefusedError(f"{len(data)} bytes written to a stream that was refused with 503")


def busy(start_response: "StartResponse") -> Iterable[bytes]:
    """Return 503: all threads that streams may hold are in use."""
    detail = f"this replica has {STREAM_LIMIT} event streams open, as many as WSGI_STREAMS allows; try again"
    return refused_with(start_response, "503 Service Unavailable", detail, ("Retry-After", "2"))


def refused_with(
    start_response: "StartResponse", status: str, detail: str, *headers: tuple[str, str]
) -> Iterable[bytes]:
    """Return an error as RFC 9457 problem details."""
    code, _, title = status.partition(" ")
    body = json.dumps({"type": "about:blank", "title": title, "status": int(code), "detail": detail}).encode()
    own = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]
    start_response(status, [*own, *headers])
    return [body]


def host() -> Host:
    """Load and wrap the application in `WSGI_APP` (default: the demonstration)."""
    return Host(load("WSGI_APP", "app:app"))
