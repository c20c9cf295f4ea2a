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
        self._listening = True
        self._connections: set[TConn] = set()
        self.keepalived_conns: Any = self._connections  # gunicorn asks how many there are

    def run(self) -> None:
        """Start the threads, and see that the lead is passed on until told to stop; then until all is answered.

        Where all threads hang gunicorn is not notified, and so replaces this worker after its `timeout`. At a drain
        the health checks are answered to the end: where they are refused, HAProxy cuts off the streams' requests.
        """
        self.set_accept_enabled(True)
        for _ in range(self.cfg.threads):
            threading.Thread(target=self._follow, daemon=True).start()
        begun = -1
        while self.alive and self.is_parent_alive():
            if self._lead.locked() or self.nr > begun:  # else every thread is kept, and none has begun a request
                begun = self.nr
                self.notify()
            self._close_idle()
            self._watch(1.0, alive=True)
        self.alive = False
        if not serving.draining():  # then what comes is work, and another worker's
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
        """Accept connections or do not; none any more once the listeners close, whichever thread says so last."""
        with self._ending:
            super().set_accept_enabled(bool(enabled) and self._listening)

    def _watch(self, seconds: float, *, alive: bool) -> None:
        """Pass the lead on whenever a request keeps it. Return after so many seconds, or once `alive` has changed."""
        end = time.monotonic() + seconds
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
            if now < (conn.timeout or now) or not self._taken(conn):
                continue
            poll = select.poll()
            poll.register(conn.sock, select.POLLIN)
            if poll.poll(0):  # a request has come, but every thread is kept by another
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
        """Take the lead whenever it is free, for as long as no request keeps it."""
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
        """Wait for what comes and answer it; return whether this thread still leads."""
        self.set_accept_enabled(len(self._connections) < self.worker_connections)
        for key, _ in self.poller.select(1.0):
            if not isinstance(key.data, TConn):
                key.data(key.fileobj)  # a listener's `accept`
            elif self._taken(key.data) and not self._answer(key.data):
                return False
        return True

    def accept(self, listener: socket) -> None:
        """Accept a connection; its request is answered when it has come."""
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
                pass  # the next request came with the body of the last
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
        """Read on for a while after an answer that came before the end of the request's body.

        gunicorn gives up after 64 KiB and closes. A connection that is closed with unread bytes is reset, and the
        reset takes the answer with it.
        """
        parser: Any = conn.parser
        try:
            drained = parser.finish_body(deadline=time.monotonic() + LINGER_SECONDS, max_bytes=sys.maxsize)
        except ParseException:  # the answer is complete, and no place for another
            return False
        return keepalive and bool(drained)
