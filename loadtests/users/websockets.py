"""Users that hold a WebSocket."""

import json
import random
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import gevent
import websocket

from users.connections import connect
from users.gauges import GAUGES
from users.streams import CONNECT_SECONDS, Stream


class WebSocket(Stream):
    """A WebSocket with numbered ticks. It also reports `echo`, a round trip from when it was due."""

    abstract = True
    kind = "WS"
    resumes = False
    echo_seconds = 1.0

    def on_start(self) -> None:
        """See Stream. Ticks are numbered by the clock: if all had one interval, all would be due at once."""
        super().on_start()
        self.interval_ms = round(self.interval_ms * random.uniform(0.9, 1.1))

    def numbers(self, last: int | None) -> Iterator[int]:
        """See Stream."""
        url = f"{(self.host or '').replace('http', 'ws', 1)}{self.path}?interval_ms={self.interval_ms}"
        began = time.perf_counter()
        connection = websocket.create_connection(
            url,
            socket=connect(urlsplit(self.host or ""), CONNECT_SECONDS),
            enable_multithread=False,
            skip_utf8_validation=True,
        )
        self.opened(began)
        connection.settimeout(15 + self.interval_ms / 1000)
        echoes = gevent.spawn(self.send_echoes, connection)
        try:
            while text := connection.recv():
                message = json.loads(text)
                if message["type"] == "tick":
                    yield message["n"]
                else:
                    self.report("echo", time.perf_counter() - float(message["data"]))
        finally:
            GAUGES.open -= 1
            echoes.kill()
            connection.shutdown()  # type: ignore[no-untyped-call]

    def send_echoes(self, connection: websocket.WebSocket) -> None:
        """Send each echo's due time when it is due; the reader notices a lost connection."""
        due = time.perf_counter() + random.uniform(0, self.echo_seconds)
        try:
            while True:
                gevent.sleep(max(0.0, due - time.perf_counter()))
                connection.send(repr(due))
                due += self.echo_seconds
        except (OSError, websocket.WebSocketException):
            return
