"""Background threads for tests, and a small closed-loop load: each client sends as soon as it has a response."""

import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx


class Background:
    """Functions that run in threads during a `with` block and return once `_end` is set."""

    def __init__(self, *functions: Callable[[], None]) -> None:
        self._end = threading.Event()
        self._threads = [threading.Thread(target=function) for function in functions]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


class Load(Background):
    """Clients in threads during a `with` block; afterwards `outcomes` counts status codes and exceptions."""

    def __init__(
        self, url: str, clients: int = 4, method: str = "GET", content: bytes | None = None, *, verify: bool = True
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self._verify = verify
        self._request = (method, url, content)
        super().__init__(*[self._client] * clients)

    def _client(self) -> None:
        method, url, content = self._request
        with httpx.Client(timeout=30, verify=self._verify) as client:
            while not self._end.is_set():
                try:
                    outcome = str(client.request(method, url, content=content).status_code)
                except httpx.HTTPError as error:
                    outcome = type(error).__name__
                self.outcomes[outcome] += 1

    @property
    def failures(self) -> dict[str, int]:
        """The outcomes other than 200."""
        return {outcome: count for outcome, count in self.outcomes.items() if outcome != "200"}
