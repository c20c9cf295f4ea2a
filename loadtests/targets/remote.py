"""A deployment elsewhere (./scripts/load --target URL)."""

from targets.target import Target, accepts


class Remote(Target):
    """Somebody else's deployment: only its URL is known."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.name = url
        self._url = url.rstrip("/")

    def url(self) -> str:
        """See Target."""
        return self._url

    def answers(self) -> bool:
        """See Target."""
        return accepts(self._url)
