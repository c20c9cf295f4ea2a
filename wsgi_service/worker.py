"""gunicorn's thread worker, after the pattern Leader/Followers."""

import os
import select
import selectors
import sys
import threading
import time
from contextlib import suppress
from socket import socket
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

import response  # noqa: F401 - replaces what gunicorn makes answers with

PATIENCE_SECONDS = 0.005  # how long a request may keep the lead
LINGER_SECONDS = 2.0  # for the rest of a body after an early answer, and for idle connections when told to stop


class Worker(ThreadWorker):
    """`gthread` in which the thread that waits for requests answers them, too.

    gunicorn's own hands a request from the thread that polls to one of a pool, and the connection back. Its threads
    compete for the interpreter's lock, which goes from one to another in no order, so that some requests are overtaken
    by hundreds. Here one thread leads: it polls and answers, and no other is awake. Where a request keeps it
    (it waits for a database, or computes for long) the lead is passed on, and up to `threads` requests overlap.

    The pattern: Schmidt, O'Ryan, Kircher, Pyarali, Buschmann, "Leader/Followers", PLoP 2000. What makes it worth it
    in Python: docs/measurements.md.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lead = threading.Lock()  # held by the leader; released for it where a request keeps it
        self._turn: tuple[TConn] | None = None  # the connection that the leader answers; another tuple each time
        self._ending = threading.Lock()  # whoever ends a turn, its thread or the main one, holds it
        self._resting = False  # the main thread waits for a turn to begin
        self._connections: set[TConn] = set()
        self._stop_idle = float("inf")  # when idle connections are closed, whatever their own timeout (monotonic clock)

    def run(self) -> None:
        """Start the threads, and see that the lead is passed on until told to stop; then until all is answered."""
        self.set_accept_enabled(True)
        for _ in range(self.cfg.threads):
            threading.Thread(target=self._follow, daemon=True).start()
        while self.alive and self.is_parent_alive():
            self.notify()
            self._close_idle()
            self._watch(1.0)
        self.alive = False
        self.set_accept_enabled(False)
        for listener in self.sockets:
            listener.close()
        now = time.monotonic()
        self._stop_idle = now + LINGER_SECONDS
        while self._connections and time.monotonic() < now + self.cfg.graceful_timeout:
            self.notify()
            self._close_idle()
            self._watch(0.1)

    def _watch(self, seconds: float) -> None:
        """Pass the lead on whenever a request keeps it. Return after so many seconds, or at a signal."""
        end = time.monotonic() + seconds
        alive = self.alive
        while self.alive == alive and (left := end - time.monotonic()) > 0:
            self._resting = True  # said before the look, so that a turn that begins behind it wakes this thread
            turn = self._turn
            if turn is not None:
                self._resting = False
                left = min(left, PATIENCE_SECONDS)
            woken, _, _ = select.select([self.PIPE[0]], [], [], left)  # gunicorn has signals write there, too
            if woken:
                os.read(self.PIPE[0], 4096)
            elif turn is not None and self._end(turn):
                self._lead.release()

    def _end(self, turn: tuple[TConn]) -> bool:
        """End a turn; return whether it had not ended before."""
        with self._ending:
            if self._turn is not turn:
                return False
            self._turn = None
            return True

    def _close_idle(self) -> None:
        """Close the connections on which no request has come for too long."""
        now = time.monotonic()
        for conn in list(self._connections):
            deadline = min(self._stop_idle, conn.timeout or self._stop_idle)
            if deadline <= now and self._taken(conn):
                self._connections.discard(conn)
                conn.close()

    def _taken(self, conn: TConn) -> bool:
        """Take the connection out of the poller; return whether it was there, and so is this thread's alone."""
        try:
            self.poller.unregister(conn.sock)
        except (KeyError, ValueError):  # a request has come, or it is closed
            return False
        return True

    def _follow(self) -> None:
        """Take the lead whenever it is free, for as long as no request keeps it."""
        try:
            while True:
                self._lead.acquire()
                while self._serve():
                    pass
        except BaseException:
            self.log.exception("The leading thread failed, so this worker ends")
            self.alive = False
            os.write(self.PIPE[1], b".")

    def _serve(self) -> bool:
        """Wait for what comes and answer it; return whether this thread still leads."""
        if self.alive:
            self.set_accept_enabled(len(self._connections) < self.worker_connections)
        for key, _ in self.poller.select(1.0):
            if not isinstance(key.data, TConn):
                key.data(key.fileobj)  # a listener's `accept`
            elif self._taken(key.data) and not self._answer(key.data):
                return False
        return True

    def accept(self, listener: socket) -> None:
        """Accept a connection; its request is answered when it has come."""
        with suppress(OSError):  # the client has left, or this worker stops
            client, address = listener.accept()
            conn = TConn(self.cfg, client, address, listener.getsockname())
            conn.data_ready = True
            self._await_request(conn)

    def _await_request(self, conn: TConn) -> None:
        conn.set_timeout()
        self._connections.add(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, conn)

    def _answer(self, conn: Any) -> bool:
        """Answer a request; return whether this thread still leads."""
        self._turn = turn = (conn,)
        if self._resting:
            self._resting = False
            os.write(self.PIPE[1], b".")
        again = False
        try:
            while (again := self.handle(conn) is True) and conn.parser.unreader.buf.getvalue():
                pass  # the next request came with the body of the last
        except BaseException:
            self.log.exception("Error handling request")
        if again:
            self._await_request(conn)
        else:
            self._connections.discard(conn)
            with suppress(OSError):  # it is closed already
                conn.close(graceful=True)
        return self._end(turn)

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
