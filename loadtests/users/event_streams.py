"""Users that hold a stream of Server-Sent Events."""

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from geventhttpclient.response import HTTPSocketResponse

from users.connections import connect
from users.gauges import GAUGES
from users.streams import CONNECT_SECONDS, EndError, Stream


class EventStream(Stream):
    """Server-Sent Events; resumes with `Last-Event-ID`."""

    abstract = True
    kind = "SSE"

    def numbers(self, last: int | None) -> Iterator[int]:
        """See Stream. Reads line by line: an HTTP client that reads blocks delays events until a block is full."""
        url = urlsplit(self.host or "")
        resume = "" if last is None else f"Last-Event-ID: {last}\r\n"
        request = (
            f"GET {url.path}{self.path}?interval_ms={self.interval_ms} HTTP/1.1\r\nHost: {url.netloc}\r\n"
            f"Accept: text/event-stream\r\n{resume}\r\n"
        )
        began = time.perf_counter()
        connection = connect(url, CONNECT_SECONDS)
        try:
            connection.sendall(request.encode())
            response = HTTPSocketResponse(connection, block_size=1024)
            if response.status_code != 200:
                raise EndError(f"status {response.status_code}")
            self.opened(began)
            connection.settimeout(15 + self.interval_ms / 1000)  # the services send a comment every 15 s at least
            while line := response.readline(b"\n"):
                if line.startswith(b"id:"):
                    yield int(line[3:])
        finally:
            GAUGES.open -= self.is_open
            connection.close()
