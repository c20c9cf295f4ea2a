"""uvicorn's protocols: the head goes out with the body, HTTP/1.0 is spoken, and a WebSocket buffers within limits."""

import asyncio
import re
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
    from websockets.frames import Frame

LARGEST_HEAD = 15_000  # bytes: HAProxy's buffer (tune.bufsize) less its reserve (tune.maxrewrite) and its own use
CHUNKED = re.compile(rb"transfer-encoding: chunked\r\n", re.IGNORECASE)
MOST_FRAGMENTS = 1024  # per WebSocket message; uvicorn's ws_max_size does not count empty ones

FAILED = (
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\n"
    b"connection: close\r\n\r\nInternal Server Error"
)  # as uvicorn responds if nothing has begun


class Transport:
    """The part of an asyncio transport that uvicorn uses, with writes that can be held."""

    __slots__ = ("_held", "_transport", "holding")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        self.holding = False

    def write(self, data: bytes) -> None:
        """Write, or hold while `holding`. An empty write does not send the held bytes."""
        self._held += data
        if data and not self.holding:
            self.flush()

    @property
    def held(self) -> int:
        """The bytes that are held."""
        return len(self._held)

    def unframe(self) -> None:
        """Take the chunked encoding out of the held head."""
        self._held = CHUNKED.sub(b"", self._held)

    def hold(self) -> None:
        """Keep holding: the head cannot be sent as it is."""
        self.holding = bool(self._held)

    def flush(self) -> None:
        """Write what was kept."""
        self.holding = False
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def close(self) -> None:
        """Write the held bytes and close. If only a head is held, send a 500 instead."""
        if self.holding:
            self._held = FAILED
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Tell whether the transport is closed, or about to be."""
        return self._transport.is_closing()


class RequestResponseCycle(httptools_impl.RequestResponseCycle):
    """Sends the head of a response together with the first bytes of its body.

    uvicorn sends them separately. If a process is killed in between, the client has a head without a body, and
    a balancer cannot retry the request. A head without Content-Length may begin a stream, so it is sent as
    soon as the application's task yields.

    A response to HTTP/1.0 is not chunked: it ends with the connection. A 204 or 304 has no body, whatever the
    application sends.
    """

    transport: Transport  # type: ignore[assignment]

    def __init__(self, *, transport: asyncio.Transport, **rest: Any) -> None:
        super().__init__(transport=Transport(transport), **rest)  # type: ignore[arg-type]
        self._bodiless = self._unframed = False

    async def send(self, message: "ASGISendEvent") -> None:
        """Send as uvicorn does, but keep the head until there is something to send with it."""
        begins = self.transport.holding = not self.response_started
        if not begins and (self._bodiless or self._unframed) and message["type"] == "http.response.body":
            body = b"" if self._bodiless else message.get("body", b"")
            message = {**message, "body": body}
            self.expected_content_length = len(body)
        try:
            await super().send(message)
            if begins:
                self._begin(message)
        except BaseException:
            self.transport.hold()
            raise
        if self.response_complete:
            self.transport.flush()
        elif self.transport.holding and self.chunked_encoding is not False:
            asyncio.get_running_loop().call_soon(self.transport.flush)

    def _begin(self, message: "ASGISendEvent") -> None:
        """Look at the head that is held; raise ValueError if HAProxy would reject it."""
        if self.transport.held > LARGEST_HEAD:
            raise ValueError(f"the response headers take {self.transport.held} bytes; HAProxy accepts {LARGEST_HEAD}")
        if message.get("status") in (204, 304):
            self._bodiless, self.chunked_encoding = True, False
        elif self.chunked_encoding and self.scope["http_version"] == "1.0":
            self._unframed, self.chunked_encoding = True, None
            self.transport.unframe()


class HTTP(httptools_impl.HttpToolsProtocol):
    """Keeps trailers out of the headers, because a client could use them to forge what the proxy sets."""

    def on_headers_complete(self) -> None:
        """Begin the request with a copy of the headers: uvicorn adds trailers to its list."""
        self.scope["headers"] = list(self.headers)
        super().on_headers_complete()


class WebSocket(WebSocketsSansIOProtocol):
    """Stops reading from a client that does not read, and limits the fragments of a message.

    uvicorn writes a pong for every ping, even if none can be sent, and keeps all fragments until the last arrives.
    """

    def pause_writing(self) -> None:
        """Stop reading, too, until the write buffer drains."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on, unless the application has messages to take first."""
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()

    async def receive(self) -> "ASGIReceiveEvent":
        """Return a message; pause again if the write buffer is full."""
        message = await super().receive()
        if not self.writable.is_set():
            self.transport.pause_reading()
        return message

    def handle_cont(self, event: "Frame") -> None:
        """Take a fragment, or close with 1009 (message too big)."""
        if len(self.frames) < MOST_FRAGMENTS:
            super().handle_cont(event)
        elif not self.close_sent:
            self.conn.fail(1009, f"more than {MOST_FRAGMENTS} fragments")
            self.handle_parser_exception()


setattr(httptools_impl, "RequestResponseCycle", RequestResponseCycle)  # noqa: B010 - uvicorn offers no other way
