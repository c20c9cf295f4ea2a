"""gunicorn's thread worker, with answers that arrive whole or not at all."""

import sys
import time
from typing import Any

from gunicorn.http import wsgi
from gunicorn.workers.gthread import TConn, ThreadWorker

LINGER_SECONDS = 2.0


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


class Worker(ThreadWorker):
    """`gthread`, that keeps nobody waiting who will not be answered."""

    def is_parent_alive(self) -> bool:
        """Refuse connections as soon as the master has gone; what was accepted is still answered."""
        alive = bool(super().is_parent_alive())
        if not alive:
            for listener in self.sockets:
                listener.close()
        return alive

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """Read on for a while after an answer that came before the end of the request's body.

        gunicorn gives up after 64 KiB and closes. A connection that is closed with unread bytes is reset, and the
        reset takes the answer with it.
        """
        parser: Any = conn.parser
        drained = parser.finish_body(deadline=time.monotonic() + LINGER_SECONDS, max_bytes=sys.maxsize)
        return keepalive and bool(drained)


setattr(wsgi, "Response", Response)  # noqa: B010 - wsgi.create() makes what this name says; a worker has no say
