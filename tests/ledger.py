"""Counts what was lost, doubled or refused: a client that writes down what it sends, against a journal.

The client sends at a fixed rate whatever the answers do (open loop), each request with an id of its own, and
tries nothing twice. An answer that is not 200, an empty reply and a connection error are failures alike.
"""

import asyncio
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx

from load import Background


class Ledger(Background):
    """Sends for the time of a `with`, at `rate` requests a second; `{id}` in the URL is the request's own id."""

    def __init__(self, url: str, rate: float, method: str = "GET", *, keyed: bool = False) -> None:
        self.sent: list[str] = []
        self.outcomes: dict[str, str] = {}
        self.ended: dict[str, float] = {}
        self.seconds: list[float] = []
        self._url, self._rate, self._method, self._keyed = url, rate, method, keyed
        super().__init__(lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(timeout=40, limits=limits) as client, asyncio.TaskGroup() as tasks:
            start = time.monotonic()
            while not self._end.is_set():
                await asyncio.sleep(start + len(self.sent) / self._rate - time.monotonic())
                entry = uuid.uuid4().hex
                self.sent.append(entry)
                tasks.create_task(self._send(client, entry))

    async def _send(self, client: httpx.AsyncClient, entry: str) -> None:
        began = time.monotonic()
        try:
            self.outcomes[entry] = await self._ask(client, self._url.replace("{id}", entry), entry)
        except (httpx.HTTPError, OSError) as error:
            self.outcomes[entry] = type(error).__name__
        self.ended[entry] = time.monotonic()
        self.seconds.append(self.ended[entry] - began)

    async def _ask(self, client: httpx.AsyncClient, url: str, entry: str) -> str:
        """Send one request, and return what its answer counts as."""
        headers = {"Idempotency-Key": entry} if self._keyed else {}
        return str((await client.request(self._method, url, headers=headers)).status_code)

    @property
    def acknowledged(self) -> set[str]:
        """The ids that were answered with 200."""
        return {entry for entry, outcome in self.outcomes.items() if outcome == "200"}

    @property
    def failures(self) -> dict[str, int]:
        """Everything that was not answered with 200, counted."""
        return dict(Counter(outcome for outcome in self.outcomes.values() if outcome != "200"))

    def goodput(self, start: float, end: float) -> float:
        """Return the answers with 200 that came in a second, between two times of the monotonic clock."""
        return sum(start <= self.ended[entry] < end for entry in self.acknowledged) / (end - start)

    def percentile(self, share: float) -> float:
        """Return the answers' time in seconds that this share of them did not exceed."""
        return sorted(self.seconds)[int(share * (len(self.seconds) - 1))]


@dataclass
class Account:
    """What became of the ids of a ledger."""

    lost: set[str]  # acknowledged, and not in the journal
    doubled: set[str]  # in the journal more than once
    unknown: set[str]  # not acknowledged, and in the journal
    failed: set[str]  # not acknowledged, and not in the journal
    most_runs: int


def account(ledger: Ledger, journal: Path) -> Account:
    """Compare the ledger with the journal in that folder, which must be closed: late commits have come."""
    lines = [line for file in journal.glob("entries-*") for line in file.read_text().split()]
    runs = Counter(line for line in lines if line in set(ledger.sent))
    acknowledged, refused = ledger.acknowledged, set(ledger.sent) - ledger.acknowledged
    return Account(
        lost=acknowledged - runs.keys(),
        doubled={entry for entry, count in runs.items() if count > 1},
        unknown=refused & runs.keys(),
        failed=refused - runs.keys(),
        most_runs=max(runs.values(), default=0),
    )
