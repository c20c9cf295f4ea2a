"""HTTP/3: a client for many requests at once, and a transport for httpx, in an event loop of its own."""

import asyncio
import ssl
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

import httpx
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent

Headers = list[tuple[bytes, bytes]]


CANCELLED = 0x10C  # H3_REQUEST_CANCELLED (RFC 9114, 8.1)


class Protocol(QuicConnectionProtocol):
    """Collects each stream's response; `bodies` has what each has received so far, `closed` whether it has ended."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = H3Connection(self._quic)
        self._heads: dict[int, Headers] = {}
        self.closed = False
        self._received = asyncio.Event()
        self.bodies: defaultdict[int, bytes] = defaultdict(bytes)
        self._ended: dict[int, asyncio.Future[tuple[Headers, bytes]]] = {}

    def begin(self, headers: Headers, body: bytes = b"", *, more: bool = False) -> int:
        """Send a request, whose body may have more to come; return its stream."""
        stream = self._quic.get_next_available_stream_id()
        self._ended[stream] = asyncio.get_running_loop().create_future()
        self._http.send_headers(stream, headers, end_stream=not body)
        if body:
            self._http.send_data(stream, body, end_stream=not more)
        self.transmit()
        return stream

    def may_begin(self) -> bool:
        """Tell whether HAProxy allows one more request at this time."""
        return self._quic.get_next_available_stream_id() // 4 < self._quic._remote_max_streams_bidi

    @property
    def proved_its_address(self) -> bool:
        """Tell whether HAProxy has answered the first packet with a Retry (RFC 9000, 8.1.2)."""
        return self._quic._retry_count > 0

    def cancel(self, stream: int) -> None:
        """Take a request back."""
        self._quic.reset_stream(stream, CANCELLED)
        self._quic.stop_stream(stream, CANCELLED)
        self.transmit()

    async def ask(self, headers: Headers, body: bytes = b"", *, more: bool = False) -> tuple[Headers, bytes]:
        """Send a request, and return its response."""
        return await asyncio.wait_for(self._ended[self.begin(headers, body, more=more)], 60)

    async def until(self, done: Callable[[], object]) -> None:
        """Wait until `done()` is true, or the connection has ended; fail after 60 s."""
        async with asyncio.timeout(60):
            while not done() and not self.closed:
                self._received.clear()
                await self._received.wait()

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        """See asyncio.DatagramProtocol."""
        super().datagram_received(data, addr)
        self._received.set()

    def quic_event_received(self, event: QuicEvent) -> None:
        """See QuicConnectionProtocol."""
        if isinstance(event, ConnectionTerminated):
            self.closed = True
            self._received.set()
        for received in self._http.handle_event(event):
            self._take(received)

    def _take(self, event: H3Event) -> None:
        if not isinstance(event, HeadersReceived | DataReceived):
            return
        stream = event.stream_id
        if isinstance(event, HeadersReceived):
            self._heads.setdefault(stream, event.headers)
        else:
            self.bodies[stream] += event.data
        if event.stream_ended and not self._ended[stream].done():
            self._ended[stream].set_result((self._heads[stream], self.bodies[stream]))


def configuration() -> QuicConfiguration:
    """Return that of a client which trusts what SSL_CERT_FILE names."""
    trusted = ssl.get_default_verify_paths().cafile
    return QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, cafile=trusted)


def connected(host: str, port: int) -> AbstractAsyncContextManager[Any]:
    """Return a connection, as a Protocol, for an `async with`."""
    return connect(host, port, configuration=configuration(), create_protocol=Protocol)


class HTTP3(httpx.BaseTransport):
    """Sends each request over the same connection to `host` and `port`, and trusts what SSL_CERT_FILE names."""

    def __init__(self, host: str, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._connecting = connected(host, port)
        self._protocol = self._await(self._connecting.__aenter__())

    def _await(self, awaitable: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(awaitable, self._loop).result(90)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx.BaseTransport. A body of unknown length has none in the request either."""
        url, left_out = request.url, {b"host", b"connection", b"transfer-encoding", b"upgrade"}
        headers = [
            (b":method", request.method.encode()),
            (b":scheme", b"https"),
            (b":authority", request.headers["host"].encode()),
            (b":path", url.raw_path),
            *((name.lower(), value) for name, value in request.headers.raw if name.lower() not in left_out),
        ]
        head, body = self._await(self._protocol.ask(headers, request.read()))
        status = int(dict(head)[b":status"])
        fields = [(name, value) for name, value in head if not name.startswith(b":")]
        return httpx.Response(
            status, headers=fields, stream=httpx.ByteStream(body), extensions={"http_version": b"HTTP/3"}
        )

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._await(self._connecting.__aexit__(kind, error, trace))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
