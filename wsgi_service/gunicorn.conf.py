"""How the WSGI application is served: one gunicorn worker process, a few threads.

One process per replica: HAProxy sees every queue; replicas, not workers, are the unit of scale.
Figures behind the numbers: docs/measurements.md.
"""

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

import jsonlog
import oom
import seams
import serving

log = logging.getLogger("gunicorn.error")

# `leader` is worker.py with response.py; `gthread` is gunicorn's own, with neither. docs/servers.md compares them.
WORKER = os.environ.get("WSGI_WORKER") or "leader"
seams.check(WORKER)

# HAProxy sends at most WSGI_MAXCONN requests that it may retry, as many others, and WSGI_STREAMS that may become
# streams. At a reload, the old process and the new one each send as many. Health checks get 2 more threads.
threads = 2 * (2 * int(os.environ.get("WSGI_MAXCONN", "4")) + serving.STREAM_LIMIT) + 2

wsgi_app = "serving:host()"
bind = f"{os.environ.get('LISTEN', '127.0.0.1')}:{os.environ.get('PORT', '8001')}"
worker_class = {"leader": "worker.Worker", "gthread": "gthread"}[WORKER]
workers = 1
keepalive = 75  # longer than HAProxy keeps an idle connection, so that it is never the server who closes one
timeout = 60  # no limit on a request: replaces a worker whose threads all hang, once HAProxy has given up
graceful_timeout = 20
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None
control_socket_disable = True
limit_request_line = 0  # HAProxy's buffer is the limit that decides
limit_request_field_size = 16384
limit_request_fields = 200
permit_unconventional_http_method = True  # an application may define its own methods
forwarder_headers = ""  # nobody sets SCRIPT_NAME by a header; serving.py does it


class JSONLogger(Logger):
    """gunicorn's and the application's log, as JSON lines on standard error."""

    def setup(self, cfg: Config) -> None:
        """Write as jsonlog.py does, in gunicorn's own handler and on the root logger."""
        super().setup(cfg)
        logging.getLogger().handlers = [jsonlog.handler]
        logging.getLogger().setLevel(logging.INFO)
        self.error_log.handlers = [jsonlog.handler]

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Log as usual; it is the last line about a request, so this thread's next line is about another."""
        super().exception(msg, *args, **kwargs)
        jsonlog.request_id.set("")

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Log as usual; as for `exception`."""
        super().warning(msg, *args, **kwargs)
        jsonlog.request_id.set("")


logger_class = JSONLogger


def worker_abort(_worker: Any) -> None:
    """Write down where each thread is, when a worker is replaced because all of them hang."""
    faulthandler.dump_traceback()


def post_request(_worker: Any, _request: Any, _environ: Any, _response: Any) -> None:
    """Forget the request's id, unless an error is about to be logged under it."""
    if (error := sys.exception()) is None or isinstance(error, (OSError, StopIteration)):
        jsonlog.request_id.set("")


def when_ready(server: Arbiter) -> None:
    """Drain before gunicorn's own graceful stop.

    The first SIGTERM turns /readyz to 404 and sets an alarm. The alarm or a second SIGTERM stops gunicorn.
    """
    stop: Any = server.handle_term

    def handle_term() -> None:
        if serving.draining():
            stop()
        log.info("Draining for %s s", serving.DRAIN_SECONDS)
        serving.drain()
        if not serving.DRAIN_SECONDS:
            stop()
        signal.setitimer(signal.ITIMER_REAL, serving.DRAIN_SECONDS)

    signal.signal(signal.SIGALRM, lambda *_: server.signal(signal.SIGTERM, None))
    server.handle_term = handle_term  # type: ignore[method-assign]


def post_fork(server: Arbiter, worker: Worker) -> None:
    """Keep `timeout` from ending a worker whose application is still being imported, for START_SECONDS."""

    def import_takes_time() -> None:
        end = time.monotonic() + float(os.environ.get("START_SECONDS", "60"))
        while not worker.booted and time.monotonic() < end:
            worker.notify()
            time.sleep(1)

    threading.Thread(target=import_takes_time, daemon=True).start()


killed = oom.kills()


def child_exit(server: Arbiter, worker: Worker) -> None:
    """Say so if the worker ended for want of memory: gunicorn knows of the SIGKILL alone."""
    global killed
    before, killed = killed, oom.kills()
    if killed > before:
        log.error(oom.REASON, worker.pid)


def on_exit(server: Arbiter) -> None:
    """Print last, in one line, why the application could not be loaded."""
    if cause := serving.load_failure():
        print(cause, file=sys.stderr, flush=True)
