"""A transport for httpx that speaks HTTP/3: one QUIC connection, in an event loop of its own."""

import asyncio
import ssl
import threading
from types import TracebackType
from typing import Any

import httpx
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent

Headers = list[tuple[bytes, bytes]]


class Protocol(QuicConnectionProtocol):
    """Collects each stream's response."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = H3Connection(self._quic)
        self._heads: dict[int, Headers] = {}
        self._bodies: dict[int, bytes] = {}
        self._ended: dict[int, asyncio.Future[tuple[Headers, bytes]]] = {}

    async def ask(self, headers: Headers, body: bytes) -> tuple[Headers, bytes]:
        """Send a request, and return its response."""
        stream = self._quic.get_next_available_stream_id()
        self._ended[stream] = asyncio.get_running_loop().create_future()
        self._http.send_headers(stream, headers, end_stream=not body)
        if body:
            self._http.send_data(stream, body, end_stream=True)
        self.transmit()
        return await asyncio.wait_for(self._ended[stream], 60)

    def quic_event_received(self, event: QuicEvent) -> None:
        """See QuicConnectionProtocol."""
        for received in self._http.handle_event(event):
            self._take(received)

    def _take(self, event: H3Event) -> None:
        if not isinstance(event, HeadersReceived | DataReceived):
            return
        stream = event.stream_id
        if isinstance(event, HeadersReceived):
            self._heads.setdefault(stream, event.headers)
        else:
            self._bodies[stream] = self._bodies.get(stream, b"") + event.data
        if event.stream_ended and not self._ended[stream].done():
            self._ended[stream].set_result((self._heads[stream], self._bodies.get(stream, b"")))


class HTTP3(httpx.BaseTransport):
    """Sends each request over the same connection to `host` and `port`, and trusts what SSL_CERT_FILE names."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        trusted = ssl.get_default_verify_paths().cafile
        self._configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, cafile=trusted)
        self._connecting = connect(*self._address, configuration=self._configuration, create_protocol=Protocol)
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
