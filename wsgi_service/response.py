"""gunicorn's answers, made to arrive whole or not at all."""

import os
from collections.abc import Iterable
from typing import Any

from gunicorn.http import wsgi


class IncompleteError(Exception):
    """The application gave fewer bytes than it had announced."""


class Response(wsgi.Response):
    """Sends the head of an answer together with the first bytes of its body.

    gunicorn sends the two apart. A worker that is killed in between leaves a head without a body, and an
    answer that has begun is what a balancer can no longer ask of another replica.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._head = b""

    def start_response(self, status: str, headers: Iterable[tuple[str, str]], exc_info: Any = None) -> Any:
        """Begin the answer; with `exc_info` begin it anew, as PEP 3333 asks, as long as nothing has been sent."""
        if exc_info and not self.headers_sent:
            self.headers, self.response_length, self._head = [], None, b""
        return super().start_response(status, headers, exc_info)

    def send_headers(self) -> None:
        """Make the head, and keep it until there is something to send with it."""
        if not self.headers_sent and not self._head:
            lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
            self._head = "".join(lines).encode("latin-1")

    def _emit_body(self, data: bytes) -> None:
        if data:
            self._send(b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def sendfile(self, respiter: wsgi.FileWrapper) -> bool:
        """Hand a file to the kernel, behind the head; not one of unknown length."""
        if self.chunked:
            return False
        self.send_headers()
        self._send(b"")
        handed = bool(super().sendfile(respiter))
        if handed and self.response_length is not None:  # from where it was read to, which it still is
            file = respiter.filelike.fileno()
            self.sent = min(self.response_length, os.fstat(file).st_size - os.lseek(file, 0, os.SEEK_CUR))
        return handed

    def close(self) -> None:
        """End the answer; raise IncompleteError where the client would wait for the rest in vain."""
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


setattr(wsgi, "Response", Response)  # noqa: B010 - wsgi.create() makes what this name says; a worker has no say
