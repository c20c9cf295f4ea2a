"""Counts lost, doubled and refused requests: a client records what it sends, to compare with a journal.

The client sends at a fixed rate regardless of the responses (open loop). Each request has its own id and is never
retried. Any status but 200, an empty reply and a connection error all count as failures. The client implements HTTP
itself, because a library would take so long per request that its delay would count as the stack's.
"""

import asyncio
import re
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from load import Background

IDLE_SECONDS = 5  # well below the 15 s after which HAProxy may close the connection as a request arrives


class Ledger(Background):
    """Sends `rate` requests a second during a `with` block; `{id}` in the URL becomes the request's id."""

    keeps_alive = True

    def __init__(self, url: str, rate: float, method: str = "GET", *, keyed: bool = False) -> None:
        self.sent: list[str] = []
        self.outcomes: dict[str, str] = {}  # still grows until the block ends
        self.ended: dict[str, float] = {}
        self.seconds: list[float] = []
        self._rate, self._method, self._keyed = rate, method, keyed
        self._address = urlsplit(url)
        self._target = url.split(self._address.netloc, 1)[1]
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []
        super().__init__(lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            start = time.monotonic()
            while not self._end.is_set():
                await asyncio.sleep(start + len(self.sent) / self._rate - time.monotonic())
                entry = uuid.uuid4().hex
                self.sent.append(entry)
                tasks.create_task(self._send(entry))

    async def _send(self, entry: str) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(40):
                self.outcomes[entry] = await self._ask(entry)
        except (OSError, EOFError) as error:  # TimeoutError is an OSError
            self.outcomes[entry] = type(error).__name__
        self.ended[entry] = time.monotonic()
        self.seconds.append(self.ended[entry] - began)

    async def _ask(self, entry: str) -> str:
        """Send one request and return its outcome."""
        reader, writer = await self._connection()
        try:
            target = self._target.replace("{id}", entry)
            key = f"Idempotency-Key: {entry}\r\n" if self._keyed else ""
            close = "" if self.keeps_alive else "Connection: close\r\n"
            writer.write(
                f"{self._method} {target} HTTP/1.1\r\nHost: ledger\r\nContent-Length: 0\r\n{key}{close}\r\n".encode()
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = re.search(rb"\r\ncontent-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
        except BaseException:
            writer.close()
            raise
        if self.keeps_alive and length and b"\r\nconnection: close" not in head:
            self._idle.append((time.monotonic(), reader, writer))
        else:
            writer.close()
        return outcome_of(head)

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the last used connection that is open and not idle for long, or a new one."""
        while self._idle:
            since, reader, writer = self._idle.pop()
            if time.monotonic() - since < IDLE_SECONDS and not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._address.hostname, self._address.port)

    @property
    def acknowledged(self) -> set[str]:
        """The ids with response 200."""
        return {entry for entry, outcome in list(self.outcomes.items()) if outcome == "200"}

    @property
    def failures(self) -> dict[str, int]:
        """The outcomes other than 200, counted."""
        return dict(Counter(outcome for outcome in list(self.outcomes.values()) if outcome != "200"))

    def goodput(self, start: float, end: float) -> float:
        """Return the responses with 200 per second, between two times of the monotonic clock."""
        return sum(start <= self.ended[entry] < end for entry in self.acknowledged) / (end - start)

    def percentile(self, share: float) -> float:
        """Return this percentile of the response times, in seconds."""
        return sorted(self.seconds)[int(share * (len(self.seconds) - 1))]


@dataclass
class Sent:
    """The result of a ledger."""

    count: int
    acknowledged: int
    p99_ms: float


def send(url: str, rate: float, seconds: float) -> Sent:
    """Send for some seconds and return the result. Use another process if the test also measures other load."""
    with Ledger(url, rate) as ledger:
        time.sleep(seconds)
    return Sent(len(ledger.sent), len(ledger.acknowledged), ledger.percentile(0.99) * 1000)


def outcome_of(head: bytes) -> str:
    """Return the status, with a note if one of HAProxy's own responses lacks something."""
    status = head[9:12].decode()
    if b"application/problem+json" in head and status == "503" and b"\r\nretry-after: " not in head:
        return "503 without Retry-After"
    if b"application/problem+json" not in head and status == "502":
        return "502 without a problem"
    return status


@dataclass
class Account:
    """A ledger's ids, compared with the journal."""

    lost: set[str]  # acknowledged but not in the journal
    doubled: set[str]  # in the journal more than once
    unknown: set[str]  # not acknowledged but in the journal
    failed: set[str]  # neither acknowledged nor in the journal
    most_runs: int


def account(ledger: Ledger, journal: Path) -> Account:
    """Compare the ledger with the journal in `folder`. Late commits must have arrived."""
    lines = [line for file in journal.glob("entries-*") for line in file.read_text().split()]
    sent, acknowledged = set(ledger.sent), ledger.acknowledged
    runs, refused = Counter(line for line in lines if line in sent), sent - acknowledged
    return Account(
        lost=acknowledged - runs.keys(),
        doubled={entry for entry, count in runs.items() if count > 1},
        unknown=refused & runs.keys(),
        failed=refused - runs.keys(),
        most_runs=max(runs.values(), default=0),
    )
