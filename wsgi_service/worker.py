"""gunicorn's thread worker, after the pattern Leader/Followers."""

import errno
import os
import select
import selectors
import sys
import threading
import time
from contextlib import suppress
from socket import socket
from typing import Any

from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

import response  # noqa: F401 - replaces the class that gunicorn builds responses with
import serving

PATIENCE_SECONDS = 0.005  # how long a request may keep the lead
LINGER_SECONDS = 2.0  # for the rest of a body after an early response, and for idle connections at a stop


class Worker(ThreadWorker):
    """`gthread`, except that the thread that polls for requests also handles them.

    gunicorn's gthread hands each request from its polling thread to a pool thread, and the connection back. These
    threads compete for the interpreter lock, which is not granted in order: hundreds of requests may overtake one.
    Here one thread leads: it polls and handles requests while the others sleep. If a request takes long (it waits for
    a database, or computes), the main thread passes the lead on, and up to `threads` requests overlap.

    The pattern: Schmidt, O'Ryan, Kircher, Pyarali, Buschmann, "Leader/Followers", PLoP 2000. Figures:
    docs/measurements.md.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lead = threading.Lock()  # held by the leader; the main thread may release it
        self._turn: tuple[TConn] | None = None  # the leader's current connection; a new tuple each time
        self._ending = threading.Lock()  # held to end a turn, by its thread or the main one
        self._resting = False  # the main thread waits for a turn to begin
        self._listening = True
        self._connections: set[TConn] = set()
        self.keepalived_conns: Any = self._connections  # gunicorn asks how many there are

    def run(self) -> None:
        """Start the threads and pass the lead on, until a stop and then until nothing is in flight.

        If all threads hang, gunicorn is not notified, so it replaces this worker after `timeout`. A draining worker
        answers health checks to the end: if it refused them, HAProxy would mark it down and cut its streams.
        """
        self.set_accept_enabled(True)
        for _ in range(self.cfg.threads):
            threading.Thread(target=self._follow, daemon=True).start()
        begun = -1
        while self.alive and self.is_parent_alive():
            if self._lead.locked() or self.nr > begun:  # else all threads are busy, and no request has begun
                begun = self.nr
                self.notify()
            self._close_idle()
            self._watch(1.0, alive=True)
        self.alive = False
        if not serving.draining():  # new connections belong to the next worker
            self._stop_listening()
        now = time.monotonic()
        for conn in list(self._connections):
            conn.timeout = min(now + LINGER_SECONDS, conn.timeout or now)
        while self._connections and time.monotonic() < now + self.cfg.graceful_timeout - 1:  # before it is killed
            self.notify()
            self._close_idle()
            self._watch(0.1, alive=False)
        self._stop_listening()

    def _stop_listening(self) -> None:
        self._listening = False
        self.set_accept_enabled(False)
        for listener in self.sockets:
            listener.close()

    def set_accept_enabled(self, enabled: bool | None) -> None:
        """Start or stop accepting connections; never start again once the listeners are closed."""
        with self._ending:
            super().set_accept_enabled(bool(enabled) and self._listening)

    def _watch(self, seconds: float, *, alive: bool) -> None:
        """Pass the lead on if a request keeps it. Return after `seconds`, or if `self.alive` is no longer `alive`."""
        end = time.monotonic() + seconds
        while self.alive == alive and (left := end - time.monotonic()) > 0:
            self._resting = True  # set before reading `_turn`, so a turn that begins later wakes this thread
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
        """Close connections that have been idle for too long."""
        now = time.monotonic()
        for conn in list(self._connections):
            if now < (conn.timeout or now) or not self._taken(conn):
                continue
            poll = select.poll()
            poll.register(conn.sock, select.POLLIN)
            if poll.poll(0):  # a request has arrived, but all threads are busy
                self._await_request(conn)
            else:
                conn.close()
                self._connections.discard(conn)

    def _taken(self, conn: TConn) -> bool:
        """Take the connection out of the poller; return whether it was there, and so is this thread's alone."""
        try:
            self.poller.unregister(conn.sock)
        except (KeyError, ValueError, RuntimeError):  # another thread was faster, or has closed it
            return False
        return True

    def _follow(self) -> None:
        """Take the lead whenever it is free, and keep it until it is passed on."""
        while True:
            self._lead.acquire()
            try:
                while self._serve():
                    pass
            except BaseException:
                self.log.exception("The leading thread failed, so this worker ends")
                self.alive = False
                os.write(self.PIPE[1], b".")
                self._lead.release()
                return

    def _serve(self) -> bool:
        """Wait for events and handle them; return whether this thread still leads."""
        self.set_accept_enabled(len(self._connections) < self.worker_connections)
        for key, _ in self.poller.select(1.0):
            if not isinstance(key.data, TConn):
                key.data(key.fileobj)  # a listener's `accept`
            elif self._taken(key.data) and not self._answer(key.data):
                return False
        return True

    def accept(self, listener: socket) -> None:
        """Accept a connection, and watch it for its first request."""
        try:
            server = listener.getsockname()
            client, address = listener.accept()
        except (OSError, AttributeError) as error:
            if self._listening and getattr(error, "errno", None) not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return  # the client has left, or this worker stops
        conn = TConn(self.cfg, client, address, server)
        conn.data_ready = True
        self._await_request(conn)

    def _await_request(self, conn: TConn) -> None:
        conn.timeout = time.monotonic() + (self.cfg.keepalive if self.alive else LINGER_SECONDS)
        self._connections.add(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, conn)

    def _answer(self, conn: Any) -> bool:
        """Answer a request; return whether this thread still leads."""
        self._turn = turn = (conn,)
        if self._resting:
            self._resting = False
            os.write(self.PIPE[1], b".")
        try:
            while (again := self.handle(conn) is True) and conn.parser.unreader.buf.getvalue():
                pass  # the next request was read with the last body
            if again:
                self._await_request(conn)
        except BaseException:
            self.log.exception("Error handling request")
            again = False
        if not again:
            with suppress(OSError):  # it is closed already
                conn.close(graceful=True)
            self._connections.discard(conn)
        return self._end(turn)

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """If the response came before the end of the request's body, read the rest for a while.

        gunicorn gives up after 64 KiB and closes. Closing a connection with unread bytes resets it, and the client
        may lose the response.
        """
        parser: Any = conn.parser
        try:
            drained = parser.finish_body(deadline=time.monotonic() + LINGER_SECONDS, max_bytes=sys.maxsize)
        except ParseException:  # the response is complete; close the connection
            return False
        return keepalive and bool(drained)
