"""Many clients at once, one connection each: too many requests, too many WebSockets, or clients far too slow."""

import asyncio
import contextlib
import resource
import socket
import struct
import time
from collections import Counter
from urllib.parse import urlsplit

from ledger import Ledger


class Crowd(Ledger):
    """A ledger that opens a connection for every request, as many clients would."""

    keeps_alive = False


def storm(
    url: str, openings: list[bytes], count: int, seconds: float, over: float = 0, slowly: bytes = b""
) -> tuple[Counter[str], float]:
    """Open `count` connections, send an opening on each, then `slowly` a byte a second; keep them open.

    They open all at once or spread over `over` seconds, with the `openings` in turn. Wait for `seconds` and until all
    are answered, for a minute at most. Return the statuses, counted, and the seconds until the last one. Use another
    process if the test also measures, so that the storm does not slow the measurement.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return asyncio.run(_storm(url, openings, count, seconds, over, slowly))


async def _storm(
    url: str, openings: list[bytes], count: int, seconds: float, over: float, slowly: bytes
) -> tuple[Counter[str], float]:
    address = urlsplit(url)
    answered: Counter[str] = Counter()
    began = time.monotonic()
    last = 0.0

    async def client(number: int) -> None:
        nonlocal last
        await asyncio.sleep(over * number / count)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        # Reset at the end: thousands of ports in TIME_WAIT would slow the next connections.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.closing(writer):
            writer.write(openings[number % len(openings)])
            trickling = asyncio.create_task(trickle(writer))
            answer = await reader.read(12)
            answered[answer[9:].decode() or "closed"] += 1
            last = time.monotonic() - began
            trickling.cancel()
            await asyncio.Future()

    async def trickle(writer: asyncio.StreamWriter) -> None:
        for byte in slowly:
            await asyncio.sleep(1)
            writer.write(bytes([byte]))

    clients = [asyncio.create_task(client(number)) for number in range(count)]
    await asyncio.wait(clients, timeout=seconds)
    latest = began + 60
    while answered.total() + sum(client.done() for client in clients) < count and time.monotonic() < latest:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    for ended in clients:
        if ended.done():
            answered[type(ended.exception()).__name__] += 1
    return answered, last
