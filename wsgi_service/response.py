"""gunicorn's response, which holds its head for the body."""

import os
from collections.abc import Iterable
from typing import Any

from gunicorn.http import wsgi

LARGEST_HEAD = 15_000  # bytes: HAProxy's buffer (tune.bufsize) less its reserve (tune.maxrewrite) and its own use


class IncompleteError(Exception):
    """The application gave fewer bytes than it had announced."""


class Response(wsgi.Response):
    """Sends the head of a response together with the first bytes of its body.

    gunicorn sends them separately. If a worker is killed in between, the client has a head without a body, and
    a balancer cannot retry the request, because its response has begun.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._head = b""

    def start_response(self, status: str, headers: Iterable[tuple[str, str]], exc_info: Any = None) -> Any:
        """Begin the response; with `exc_info`, replace it if nothing has been sent (PEP 3333)."""
        if exc_info and not self.headers_sent:
            self.headers, self.response_length, self._head = [], None, b""
        return super().start_response(status, headers, exc_info)

    def send_headers(self) -> None:
        """Build the head, and hold it until there is a body to send."""
        if not self.headers_sent and not self._head:
            lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
            head = "".join(lines).encode("latin-1")
            if len(head) > LARGEST_HEAD:
                raise ValueError(f"the response headers take {len(head)} bytes; HAProxy accepts {LARGEST_HEAD}")
            self._head = head

    def _emit_body(self, data: bytes) -> None:
        if data:
            self._send(b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def sendfile(self, respiter: wsgi.FileWrapper) -> bool:
        """Let the kernel send a file after the head, if its length is known."""
        if self.chunked:
            return False
        self.send_headers()
        self._send(b"")
        handed = bool(super().sendfile(respiter))
        if handed and self.response_length is not None:  # gunicorn moved the offset back
            file = respiter.filelike.fileno()
            self.sent = min(self.response_length, os.fstat(file).st_size - os.lseek(file, 0, os.SEEK_CUR))
        return handed

    def close(self) -> None:
        """End the response; raise IncompleteError if the body is shorter than announced."""
        self.send_headers()
        missing = self.response_length is not None and self.sent < self.response_length
        if missing and not self._omits_body:  # type: ignore[attr-defined]
            raise IncompleteError(f"the application announced {self.response_length} bytes and gave {self.sent}")
        self._send(b"0\r\n\r\n" if self.chunked else b"")

    def _send(self, data: bytes) -> None:
        head, self._head = self._head, b""
        if head or data:
            self.headers_sent = True
            self.sock.sendall(head + data)


setattr(wsgi, "Response", Response)  # noqa: B010 - wsgi.create() looks this name up; a worker cannot pass one
