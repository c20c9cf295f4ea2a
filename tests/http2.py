"""An HTTP/2 client for what httpx cannot do: many streams at once, slow readers, WebSockets, frames of any kind."""

import os
import socket
import ssl
import struct
import time
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Self

import h2.connection
import h2.events
import h2.settings
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, CONTINUATION = 1, 2, 3, 4, 6, 9  # types of frames
END_STREAM, END_HEADERS = 1, 4  # flags


def connected(port: int) -> ssl.SSLSocket:
    """Return a connection to the port on which HTTP/2 has been agreed."""
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    context.set_alpn_protocols(["h2"])
    connection = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 30), server_hostname="localhost")
    assert connection.selected_alpn_protocol() == "h2"
    return connection


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class HTTP2:
    """One connection; `data` has what each stream has received, `heads` its response's header."""

    def __init__(self, port: int) -> None:
        self._socket = connected(port)
        self._http = h2.connection.H2Connection()
        self._http.initiate_connection()
        self._authority = f"localhost:{port}"
        self.heads: dict[int, dict[str, str]] = {}
        self.data: defaultdict[int, bytes] = defaultdict(bytes)
        self.ended: set[int] = set()
        self.slow: set[int] = set()  # streams whose client reads nothing further

    def __enter__(self) -> Self:
        self._flush()
        self.receive(lambda: h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS in self._http.remote_settings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _flush(self) -> None:
        self._socket.sendall(self._http.data_to_send())

    def ask(self, path: str, *fields: tuple[str, str], slow: bool = False, **pseudo: str) -> int:
        """Send a request without a body, or an extended CONNECT; return its stream."""
        stream = self._http.get_next_available_stream_id()
        first = {"method": "GET", "scheme": "https", "authority": self._authority, "path": path} | pseudo
        head = [(f":{name}", value) for name, value in first.items()]
        self._http.send_headers(stream, [*head, *fields], end_stream=first["method"] != "CONNECT")
        if slow:
            self.slow.add(stream)
        self._flush()
        return stream

    def get(self, path: str) -> dict[str, str]:
        """Return the header of the response to a GET, once that is whole."""
        stream = self.ask(path)
        self.receive(lambda: stream in self.ended)
        return self.heads[stream]

    def send(self, stream: int, data: bytes) -> None:
        """Send data on a stream that stays open."""
        self._http.send_data(stream, data)
        self._flush()

    def receive(self, done: Callable[[], object], seconds: float = 20) -> None:
        """Take what comes until `done()` is true; fail after that many seconds."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, "not within the time"
            self._socket.settimeout(seconds)
            received = self._socket.recv(65536)
            assert received, "HAProxy has closed the connection"
            for event in self._http.receive_data(received):
                self._take(event)
            self._flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self.heads[event.stream_id] = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h2.events.DataReceived):
            self.data[event.stream_id] += event.data
            self._http.increment_flow_control_window(event.flow_controlled_length)
            if event.stream_id not in self.slow and not event.stream_ended:
                self._http.increment_flow_control_window(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
            self.ended.add(event.stream_id)


class WebSocket:
    """A WebSocket over HTTP/2 (RFC 8441)."""

    def __init__(self, connection: HTTP2, path: str) -> None:
        self._connection = connection
        self.stream = connection.ask(path, ("sec-websocket-version", "13"), method="CONNECT", protocol="websocket")
        connection.receive(lambda: self.stream in connection.heads)
        self._reader, self._fed = StreamReader(), 0

    def send(self, text: str) -> None:
        """Send a message."""
        self._connection.send(self.stream, Frame(Opcode.TEXT, text.encode()).serialize(mask=True))

    def message(self) -> str:
        """Return the next message."""
        parsing = Frame.parse(self._reader.read_exact, mask=False)
        while True:
            received = self._connection.data[self.stream]
            self._reader.feed_data(received[self._fed :])
            self._fed = len(received)
            try:
                next(parsing)
            except StopIteration as parsed:
                return bytes(parsed.value.data).decode()
            self._connection.receive(lambda: len(self._connection.data[self.stream]) > self._fed)
