"""gunicorn's answers, made to arrive whole or not at all."""

from typing import Any

from gunicorn.http import wsgi


class Response(wsgi.Response):
    """Sends the head of an answer together with the first bytes of its body.

    gunicorn sends the two apart. A worker that is killed in between leaves a head without a body, and an
    answer that has begun is what a balancer can no longer ask of another replica.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._head = b""

    def send_headers(self) -> None:
        """Make the head, and keep it until there is something to send with it."""
        if not self.headers_sent:
            lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
            self._head = "".join(lines).encode("latin-1")
            self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        self._send(b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def sendfile(self, respiter: wsgi.FileWrapper) -> bool:
        """Hand a file to the kernel, behind the head."""
        self.send_headers()
        self._send(b"")
        return bool(super().sendfile(respiter))

    def close(self) -> None:
        """End the answer."""
        self.send_headers()
        self._send(b"0\r\n\r\n" if self.chunked else b"")

    def _send(self, data: bytes) -> None:
        head, self._head = self._head, b""
        if head or data:
            self.sock.sendall(head + data)


setattr(wsgi, "Response", Response)  # noqa: B010 - wsgi.create() makes what this name says; a worker has no say
