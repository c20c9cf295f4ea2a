"""Streams kept open during a `with` block: WebSockets and event streams that reconnect when they end."""

import time
from collections import Counter
from functools import partial

import httpx
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

from load import Background
from sse import stream


class Held(Background):
    """`count` event streams of a service and, on ASGI, as many WebSockets, each in its own thread."""

    def __init__(self, url: str, service: str, count: int = 3) -> None:
        self.events: list[list[int]] = [[] for _ in range(count)]
        self.closed: Counter[int] = Counter()
        self.outages: list[float] = []  # seconds from each end to the next message
        self._url, self._service = url, service
        websockets = [self._websocket] * count if service == "asgi" else []
        super().__init__(*[partial(self._events, ids) for ids in self.events], *websockets)

    def _events(self, ids: list[int]) -> None:
        ended = 0.0
        while not self._end.is_set():
            try:
                last = ids[-1] if ids else None
                with stream(f"{self._url}/{self._service}/events?interval_ms=100", last) as events:
                    for event in events:
                        if event.id is not None:
                            ids.append(event.id)
                            if ended:
                                self.outages.append(time.monotonic() - ended)
                            ended = 0.0
                        if self._end.is_set():
                            return
            except (httpx.HTTPError, AssertionError):
                pass  # cut, or no free slot yet: reconnect
            ended = ended or time.monotonic()
            time.sleep(0.5)

    def _websocket(self) -> None:
        ended = 0.0
        while not self._end.is_set():
            try:
                with connect(f"{self._url.replace('http', 'ws')}/asgi/ws?interval_ms=100") as socket:
                    while not self._end.is_set():
                        socket.recv(timeout=15)
                        if ended:
                            self.outages.append(time.monotonic() - ended)
                        ended = 0.0
            except ConnectionClosed as closed:
                self.closed[closed.rcvd.code if closed.rcvd else 1006] += 1
            except (OSError, InvalidHandshake):
                time.sleep(0.5)
            ended = ended or time.monotonic()

    def assert_no_event_was_lost_or_repeated(self) -> None:
        for ids in self.events:
            assert ids, "a stream never began"
            assert ids == list(range(ids[0], ids[0] + len(ids)))
