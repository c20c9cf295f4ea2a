"""Streams held open for the time of a `with`: WebSockets and event streams that come back when they end."""

import json
import threading
import time
from collections import Counter
from types import TracebackType

import httpx
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

from sse import stream


class Held:
    """`count` event streams of the service, and on ASGI as many WebSockets, each in a thread of its own."""

    def __init__(self, url: str, service: str, count: int = 3) -> None:
        self.events: list[list[int]] = [[] for _ in range(count)]
        self.closed: Counter[int] = Counter()
        self.resumed = 0
        self._url, self._service = url, service
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._events, args=[ids]) for ids in self.events]
        if service == "asgi":
            self._threads += [threading.Thread(target=self._websocket) for _ in range(count)]

    def _events(self, ids: list[int]) -> None:
        while not self._end.is_set():
            try:
                last = ids[-1] if ids else None
                with stream(f"{self._url}/{self._service}/events?interval_ms=100", last) as events:
                    for event in events:
                        if event.id is not None:
                            ids.append(event.id)
                        if self._end.is_set():
                            return
            except (httpx.HTTPError, AssertionError):
                pass  # cut, or no place for it yet: it comes back
            self.resumed += 1
            time.sleep(0.5)

    def _websocket(self) -> None:
        while not self._end.is_set():
            try:
                with connect(f"{self._url.replace('http', 'ws')}/asgi/ws?interval_ms=100") as socket:
                    while not self._end.is_set():
                        json.loads(socket.recv(timeout=15))
            except ConnectionClosed as closed:
                self.closed[closed.rcvd.code if closed.rcvd else 1006] += 1
            except (OSError, InvalidHandshake):
                time.sleep(0.5)

    def assert_no_event_was_lost_or_repeated(self) -> None:
        for ids in self.events:
            assert ids, "a stream never began"
            assert ids == list(range(ids[0], ids[0] + len(ids)))

    def __enter__(self) -> "Held":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
