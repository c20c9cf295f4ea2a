"""A small closed-loop load: some clients that ask as fast as they are answered, and what came of it."""

import threading
from collections import Counter
from types import TracebackType

import httpx


class Load:
    """Clients in threads for the time of a `with`; afterwards `outcomes` counts status codes and exceptions."""

    def __init__(self, url: str, clients: int = 4, method: str = "GET", content: bytes | None = None) -> None:
        self.outcomes: Counter[str] = Counter()
        self._request = (method, url, content)
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._client) for _ in range(clients)]

    def _client(self) -> None:
        method, url, content = self._request
        with httpx.Client(timeout=30) as client:
            while not self._end.is_set():
                try:
                    outcome = str(client.request(method, url, content=content).status_code)
                except httpx.HTTPError as error:
                    outcome = type(error).__name__
                self.outcomes[outcome] += 1

    @property
    def failures(self) -> dict[str, int]:
        """Everything that was not answered with 200."""
        return {outcome: count for outcome, count in self.outcomes.items() if outcome != "200"}

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
