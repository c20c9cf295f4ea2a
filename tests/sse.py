"""A reader of Server-Sent Events that records what tests check: ids, gaps, retry and arrival times."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass
class Event:
    """One event, or a comment or retry without data."""

    received: float
    name: str = "message"
    id: int | None = None
    data: Any = None
    retry: int | None = None
    comment: bool = False


@contextmanager
def stream(url: str, last_event_id: int | None = None, accept: str = "text/event-stream") -> Iterator[Iterator[Event]]:
    """Open a stream, check its type, and yield its events as they arrive."""
    headers = {"Accept": accept}
    if last_event_id is not None:
        headers["Last-Event-ID"] = str(last_event_id)
    with httpx.stream("GET", url, headers=headers, timeout=30) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield _events(response)


def _events(response: httpx.Response) -> Iterator[Event]:
    event = Event(0)
    for line in response.iter_lines():
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            event.received = time.time()
            yield event
            event = Event(0)
        elif name == "":
            event.comment = True
        elif name == "id":
            event.id = int(value)
        elif name == "event":
            event.name = value
        elif name == "data":
            event.data = json.loads(value)
        elif name == "retry":
            event.retry = int(value)
