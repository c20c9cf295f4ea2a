"""Limits on what is in flight in this replica, where HAProxy's do not hold.

HAProxy's limits keep short requests below REQUEST_LIMIT, but it cannot tell those that ask for a stream and get a short
response. Nor does it tell large bodies from small ones.
"""

import asyncio
import json
import os
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

REQUEST_LIMIT = 2 * int(os.environ.get("ASGI_MAXCONN", "100"))  # HAProxy's for GETs, and the same again for the rest
LARGE_BYTES = 1024 * 1024  # frameworks keep a body up to this size in memory, and a larger one in /tmp
LARGE_LIMIT = 16  # bodies over LARGE_BYTES at a time, for which memory and /tmp have room
QUEUE_SECONDS = 3.0  # as HAProxy's `timeout queue`


class Slots:
    """Lets `count` requests be in flight; others wait in turn.

    Not asyncio's Semaphore, which costs 2 us more for each request.
    """

    def __init__(self, count: int, what: str) -> None:
        self.free, self.what = count, what
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> bool:
        """Wait for a slot that is released; return whether there was one in QUEUE_SECONDS."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait_for(turn, QUEUE_SECONDS)
        except TimeoutError:
            return turn.done() and not turn.cancelled()  # a slot was released meanwhile
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given a slot, and has no use for it any more
                self.release()
            raise
        return True

    def release(self) -> None:
        """Give a slot back: to the first that waits, if any."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1


class Admission:
    """Lets REQUEST_LIMIT requests be in flight, and of those with a large body LARGE_LIMIT."""

    def __init__(self) -> None:
        self._requests = Slots(REQUEST_LIMIT, f"{REQUEST_LIMIT} requests, twice ASGI_MAXCONN,")
        self._large = Slots(LARGE_LIMIT, f"{LARGE_LIMIT} bodies over {LARGE_BYTES} bytes or of unknown length")

    async def admit(self, scope: Scope, send: Send, serve: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        """Call `serve(release)` once there is a slot, or return 503 if there is none in QUEUE_SECONDS.

        `serve` calls `release` when its response is complete, or is a stream; at the latest, its end releases the slot.
        """
        held: list[Slots] = []

        def release() -> None:
            while held:
                held.pop().release()

        try:
            for slots in (self._requests, self._large) if may_be_large(scope) else (self._requests,):
                if slots.free:
                    slots.free -= 1
                elif not await slots.wait():
                    return await busy(send, f"this replica has {slots.what} in flight")
                held.append(slots)
            await serve(release)
        finally:
            release()


def may_be_large(scope: Scope) -> bool:
    """Return whether the request's body is larger than LARGE_BYTES, or of unknown length."""
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return False
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or int(headers.get(b"content-length", 0)) > LARGE_BYTES


async def busy(send: Send, detail: str) -> None:
    """Return 503, and say which limit is reached."""
    problem = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": f"{detail}; try again"}
    body = json.dumps(problem).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 503, "headers": [*headers, (b"retry-after", b"2")]})
    await send({"type": "http.response.body", "body": body})
