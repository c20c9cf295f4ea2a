"""uvicorn's protocols: answers that arrive whole or not at all, and WebSockets that no client can fill memory with."""

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
    from websockets.frames import Frame

MOST_FRAGMENTS = 1024  # of one WebSocket message; uvicorn's ws_max_size counts bytes, and an empty one has none

FAILED = (
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\n"
    b"connection: close\r\n\r\nInternal Server Error"
)  # as uvicorn answers where the application had not begun


class Transport:
    """What a request and its answer need of an asyncio transport, with writes that can be put off."""

    __slots__ = ("_held", "_transport", "holding")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        self.holding = False

    def write(self, data: bytes) -> None:
        """Write, or keep for later while `holding`; nothing sends what is kept no sooner."""
        self._held += data
        if data and not self.holding:
            self.flush()

    def hold(self) -> None:
        """Keep what is kept for longer: it cannot be sent as it is."""
        self.holding = bool(self._held)

    def flush(self) -> None:
        """Write what was kept."""
        self.holding = False
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def close(self) -> None:
        """Write what was kept, and close. A head alone is an answer that has failed: 500 instead."""
        if self.holding:
            self._held = FAILED
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Tell whether the transport is closed, or about to be."""
        return self._transport.is_closing()


class RequestResponseCycle(httptools_impl.RequestResponseCycle):
    """Sends the head of an answer together with the first bytes of its body.

    uvicorn sends the two apart. A process that is killed in between leaves a head without a body, and an
    answer that has begun is what a balancer can no longer ask of another replica. The head of an answer of
    unknown length, which may be a stream, waits no longer than the application's task runs on.
    """

    transport: Transport  # type: ignore[assignment]

    def __init__(self, *, transport: asyncio.Transport, **rest: Any) -> None:
        super().__init__(transport=Transport(transport), **rest)  # type: ignore[arg-type]

    async def send(self, message: "ASGISendEvent") -> None:
        """Send as uvicorn does, but keep the head until there is something to send with it."""
        self.transport.holding = not self.response_started
        try:
            await super().send(message)
        except BaseException:
            self.transport.hold()
            raise
        if self.response_complete:
            self.transport.flush()
        elif self.transport.holding and self.chunked_encoding is not False:
            asyncio.get_running_loop().call_soon(self.transport.flush)


class HTTP(httptools_impl.HttpToolsProtocol):
    """Keeps trailers out of the application's headers, where a client could claim with them what the proxy sets."""

    def on_headers_complete(self) -> None:
        """Begin the request. uvicorn adds trailers to the list that it has handed on by then."""
        self.scope["headers"] = list(self.headers)
        super().on_headers_complete()


class WebSocket(WebSocketsSansIOProtocol):
    """Reads no further from a client that does not read, and takes only so many fragments.

    uvicorn answers each ping at once, whether the answers leave or not, and keeps fragments until the last has come.
    """

    def pause_writing(self) -> None:
        """Stop reading, too, while the client has much to read."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on, unless the application has messages to take first."""
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()

    async def receive(self) -> "ASGIReceiveEvent":
        """Hand the application a message, after which uvicorn reads on."""
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
