"""Everything that a deployment needs and an ASGI application should not have to know.

`host()` loads the callable in `ASGI_APP` and adds liveness, readiness, the client's address, scheme and
prefix as the proxy sees them, limits on what is in flight, and the clean end of WebSockets and event streams in a
drain. The application stays a plain ASGI callable: replace it and leave this file alone.
"""

import asyncio
import importlib
import inspect
import ipaddress
import logging
import os
import random
import re
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any

import jsonlog
from inflight import Admission, Message, Scope, Send, busy

Receive = Callable[[], Awaitable[Message]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

DRAIN_SECONDS = float(os.environ.get("DRAIN_SECONDS", "5"))
STREAM_LIMIT = int(os.environ.get("ASGI_STREAMS", "4000"))
TEMPORARY = tempfile.gettempdir()  # found before it may be full: Python then says that there is none
_allowed = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1").replace(" ", "").split(",")
TRUSTED = None if "*" in _allowed else [ipaddress.ip_network(network, strict=False) for network in _allowed if network]
BETWEEN = b"\n\n"  # a blank line ends an event, so the stream may end after it
BLANK_LINE_AND_COMMENTS = re.compile(rb"(?:\n\n|\r\n\r\n|\r\r)(?::[^\r\n]*(?:\r\n|\n|\r))*\Z")
HANDOVER_SECONDS = 2.0  # two of HAProxy's health checks; before that, clients may reconnect to this replica
ADOPTED = {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-prefix", b"x-forwarded-method"}
SERVICE_RESTART = 1012  # WebSocket close code (IANA registry): the client may reconnect at once

log = logging.getLogger("serving")


@lru_cache(maxsize=1024)
def trusted(peer: str) -> bool:
    """Return whether to trust `X-Forwarded-*` from the address `peer` (FORWARDED_ALLOW_IPS).

    The empty address is a Unix socket's, and the rights of its file say who may connect.
    """
    return TRUSTED is None or not peer or any(ipaddress.ip_address(peer) in network for network in TRUSTED)


def load(variable: str, default: str) -> Any:
    """Import the callable named in an environment variable as `package.module:callable`.

    If the import fails, print the traceback and, last, one line with the variable and the cause, and
    raise SystemExit(1).
    """
    target = os.environ.get(variable) or default
    module, _, name = target.partition(":")
    try:
        loaded: Any = importlib.import_module(module)
        for attribute in (name or "application").split("."):
            loaded = getattr(loaded, attribute)
        if not callable(loaded):
            raise TypeError(f"{target} is a {type(loaded).__name__}, which is not callable")
        if takes(loaded, 2) and not takes(loaded, 3) and not takes(loaded, 1):
            raise TypeError("it takes two arguments, as a WSGI application does; name it in WSGI_APP")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an import may raise anything
        traceback.print_exc()
        line = f"{variable}={target} cannot be served: {type(error).__name__}: {error}"
        print(" ".join(line.split()), file=sys.stderr, flush=True)
        raise SystemExit(1) from None
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


class EndedError(OSError):
    """The application sent to a connection that was ended here. ASGI requires OSError, as for a disconnect."""


class LongLived:
    """An open WebSocket or event stream: passes on the application's messages until a drain ends it."""

    __slots__ = ("_ended", "_ending", "_send", "_tail", "kind")

    def __init__(self, kind: str, send: Send) -> None:
        self.kind, self._send = kind, send
        self._ended = self._ending = False
        self._tail = BETWEEN  # nothing sent yet, so nothing to cut

    @property
    def ended(self) -> bool:
        """Whether this connection was ended here."""
        return self._ended

    async def send(self, message: Message) -> None:
        """Pass on `message`, or raise EndedError if the connection was ended here."""
        if self._ended:
            raise EndedError("this replica has ended the connection")
        if message["type"] == "http.response.body":
            self._tail = last_of(self._tail, message.get("body", b""))
        await self._send(message)
        if self._ending:
            await self.end()

    async def refuse(self) -> None:
        """Return 503 instead of the event stream: the replica has as many as it may have."""
        self._ended = True
        await busy(self._send, f"this replica has {STREAM_LIMIT} streams open, as many as ASGI_STREAMS allows")

    async def end(self) -> None:
        """Close a WebSocket with 1012, or an event stream with `retry:` as soon as it is between two events.

        The application then gets a disconnect, which uvicorn sends in both cases.
        """
        if self._ended:
            return
        if self.kind == "websocket":
            last = {"type": "websocket.close", "code": SERVICE_RESTART, "reason": "replica is draining"}
        elif self._tail == BETWEEN:
            last = {"type": "http.response.body", "body": b"retry: %d\n\n" % random.randint(200, 2000)}
        else:
            self._ending = True
            return
        self._ended = True
        try:
            await self._send(last)
        except (OSError, RuntimeError):
            pass  # the client or the application closed it first


class Host:
    """An ASGI callable that wraps the application; see the module's docstring."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.draining = False
        self._drained_at = 0.0
        self._open: set[LongLived] = set()
        self._admission = Admission()
        self._endings: set[asyncio.Task[None]] = set()

    def drain(self) -> None:
        """Make /readyz return 404, so that HAProxy sends no new requests, and end WebSockets and event streams.

        They end at random times during the drain, so that clients do not all reconnect at once.
        """
        self.draining = True
        self._drained_at = asyncio.get_running_loop().time()
        for connection in self._open:
            self._end_later(connection)

    def _end_later(self, connection: LongLived) -> None:
        loop = asyncio.get_running_loop()
        earliest = self._drained_at + min(HANDOVER_SECONDS, DRAIN_SECONDS / 2)
        latest = self._drained_at + DRAIN_SECONDS * 0.9

        def end() -> None:
            task = loop.create_task(connection.end())
            self._endings.add(task)
            task.add_done_callback(self._endings.discard)

        loop.call_at(random.uniform(max(earliest, loop.time()), max(latest, loop.time())), end)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer health checks here; pass everything else to the application."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            return await self.application(scope, receive, send)
        if kind == "http" and scope["path"] in ("/livez", "/readyz"):
            return await health(send, away=self.draining and scope["path"] == "/readyz")
        adopt_proxy_headers(scope)
        if kind == "http":
            await self._admission.admit(scope, send, partial(self._serve, scope, receive, send))
        else:
            await self._serve(scope, receive, send, lambda: None)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, release: Callable[[], None]) -> None:
        """Call the application; `release` gives the request's slot back as soon as it is a stream or complete."""
        kind = scope["type"]
        connection: LongLived | None = None
        left = False

        async def watch(message: Message) -> None:
            nonlocal connection
            if connection is not None:
                return await connection.send(message)
            sort = message["type"]
            if sort == "http.response.body":
                await send(message)
                if not message.get("more_body"):
                    release()
            elif sort == "websocket.accept" or (sort == "http.response.start" and is_event_stream(message)):
                connection = LongLived(kind, send)
                release()
                if kind == "http" and len(self._open) >= STREAM_LIMIT:
                    return await connection.refuse()
                await send(message)
                if kind == "http" and scope["method"] == "HEAD":  # the response is complete, so reuse the connection
                    return await connection.end()
                self._open.add(connection)
                if self.draining:
                    self._end_later(connection)
            else:
                if message.get("status") == 400 and not os.statvfs(TEMPORARY).f_bavail:
                    log.error("%s is full, and the client got 400: some frameworks answer so", TEMPORARY)
                await send(message)

        async def listen() -> Message:
            nonlocal left
            message = await receive()
            left = left or message["type"] in ("http.disconnect", "websocket.disconnect")
            return message

        try:
            await self.application(scope, listen, watch)
        except Exception as error:
            if connection is None or not (connection.ended or left):
                raise
            # No client is left to respond to. FastAPI's event streams, for one, may raise on a disconnect.
            log.info("The application raised %r after the client disconnected", error)
        finally:
            if connection is not None:
                self._open.discard(connection)


def last_of(tail: bytes, chunk: bytes) -> bytes:
    """Return the end of an event stream after `chunk`, or BETWEEN if the stream is between two events.

    It is between two events after a blank line and any comments (heartbeats) that follow.
    """
    tail = (tail + chunk[-256:])[-256:]
    return BETWEEN if BLANK_LINE_AND_COMMENTS.search(tail) else tail


def is_event_stream(start: Message) -> bool:
    """Return whether the response that `start` (http.response.start) begins is Server-Sent Events."""
    return any(
        name.lower() == b"content-type" and value[:17].lower() == b"text/event-stream"
        for name, value in start.get("headers", ())
    )


def adopt_proxy_headers(scope: Scope) -> None:
    """Set the client's address, scheme and prefix where applications expect them (ASGI's scope).

    The headers are taken out, since an application that reads them as well would adopt them twice. So is the method
    that HAProxy has put aside because uvicorn's parser does not know it.
    """
    headers = dict(scope["headers"])
    jsonlog.request_id.set(headers.get(b"x-request-id", b"").decode("latin-1"))
    if scope["client"] is not None and not trusted(scope["client"][0]):
        return
    if client := headers.get(b"x-forwarded-for"):
        scope["client"] = (client.decode("latin-1").rpartition(",")[2].strip(), 0)
    if scheme := headers.get(b"x-forwarded-proto"):
        secure = scheme == b"https"
        scope["scheme"] = ("https" if secure else "http") if scope["type"] == "http" else ("wss" if secure else "ws")
    if prefix := headers.get(b"x-forwarded-prefix"):
        scope["root_path"] = prefix.decode("latin-1")
        scope["path"] = scope["root_path"] + scope["path"]
        scope["raw_path"] = prefix + scope["raw_path"]
    if method := headers.get(b"x-forwarded-method"):
        scope["method"] = method.decode("latin-1")
    scope["headers"] = [header for header in scope["headers"] if header[0] not in ADOPTED]


async def health(send: Send, away: bool) -> None:
    """Return 200, or 404 if `away`: HAProxy then drains this replica (disable-on-404)."""
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"9" if away else b"3")]
    await send({"type": "http.response.start", "status": 404 if away else 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"draining\n" if away else b"ok\n"})


def host() -> Host:
    """Load and wrap the application in `ASGI_APP` (default: the demonstration)."""
    return Host(load("ASGI_APP", "app:app"))
