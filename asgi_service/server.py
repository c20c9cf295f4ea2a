"""How the ASGI application is served: one uvicorn process, one event loop.

One process a replica, so that HAProxy sees every queue; replicas, not workers, are the unit of scale.
Figures behind the numbers: docs/measurements.md.
"""

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

import jsonlog
import seams
import serving

GRACE_SECONDS = 20  # for requests in flight after the drain
HANG_SECONDS = 60  # no limit on a request: ends a process whose event loop is blocked, once HAProxy has given up

log = logging.getLogger("server")

# `hardened` is protocol.py; `httptools` is uvicorn's own. docs/servers.md compares them.
PROTOCOL = os.environ.get("ASGI_PROTOCOL") or "hardened"


class DrainingServer(uvicorn.Server):
    """uvicorn with a drain in front of its own graceful stop."""

    def __init__(self, config: uvicorn.Config, application: serving.Host) -> None:
        super().__init__(config)
        self.application = application
        self.loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Start, and remember the loop for the signal handler."""
        self.loop = asyncio.get_running_loop()
        self.beat()
        await super().startup()

    def beat(self) -> None:
        """Put off the end that awaits a process whose event loop is blocked; it logs where each thread hangs."""
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        asyncio.get_running_loop().call_later(1, self.beat)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first SIGTERM; stop after it, at a second one, or at SIGINT."""
        stop = super().handle_exit
        if sig != signal.SIGTERM or self.loop is None or self.application.draining:
            return stop(sig, frame)
        log.info("Draining for %s s", serving.DRAIN_SECONDS)
        asyncio.run_coroutine_threadsafe(self.drain(lambda: stop(sig, frame)), self.loop)

    async def drain(self, stop: Callable[[], None]) -> None:
        """Drain, wait for what is in flight, then `stop`.

        uvicorn's own stop also waits, but closes its listener first. If health checks are refused, HAProxy marks
        the replica down and cuts its streams. The last second is left to uvicorn's stop.
        """
        self.application.drain()
        await asyncio.sleep(serving.DRAIN_SECONDS)
        end = time.monotonic() + GRACE_SECONDS
        while self.busy() and time.monotonic() < end - 1:  # noqa: ASYNC110 - nothing tells that a buffer is empty
            await asyncio.sleep(0.1)
        self.config.timeout_graceful_shutdown = max(1, round(end - time.monotonic()))
        stop()

    def busy(self) -> bool:
        """Return whether a request is in flight or its response still buffered."""
        state = self.server_state
        return bool(state.tasks) or any(one.transport.get_write_buffer_size() for one in state.connections)


def main() -> None:
    """Serve until a signal ends it."""
    # Until uvicorn handles SIGTERM: the first process of a container ignores signals that it has no handler for.
    # After serving, uvicorn raises it again; that is ignored, so the process exits normally, `atexit` included.
    server: DrainingServer | None = None
    signal.signal(signal.SIGTERM, lambda *_: None if server and server.started else os._exit(0))
    logging.basicConfig(level=logging.INFO, handlers=[jsonlog.handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # at INFO it writes a line for every WebSocket

    seams.check(PROTOCOL)
    # Named, like the loop: fail rather than fall back to one that is 3 times slower.
    http, websocket = {
        "hardened": ("protocol:HTTP", "protocol:WebSocket"),
        "httptools": ("httptools", "websockets-sansio"),
    }[PROTOCOL]
    application = serving.host()
    config = uvicorn.Config(
        application,
        host=os.environ.get("LISTEN", "127.0.0.1"),
        port=int(os.environ.get("PORT", "8002")),
        loop="uvloop",
        http=http,
        ws=websocket,
        ws_per_message_deflate=False,  # compression costs 37 KiB for each idle socket
        ws_max_size=1024 * 1024,
        ws_ping_interval=20,  # below HAProxy's `timeout tunnel`
        ws_ping_timeout=20,
        lifespan="auto",
        log_config=None,
        access_log=False,  # HAProxy writes it
        server_header=False,
        proxy_headers=False,  # serving.py does it, with the prefix
        timeout_keep_alive=75,  # longer than HAProxy's: the server must not close an idle one first
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    log.info("Serving %s at %s:%s, %s", os.environ.get("ASGI_APP") or "app:app", config.host, config.port, PROTOCOL)
    # With thousands of open sockets, a full collection stops the loop for half a second. So make it rare, and
    # leave out what exists by now. Figures: docs/reliability.md.
    gc.freeze()
    gc.set_threshold(10_000, 5, 1000)
    server = DrainingServer(config, application)
    server.run()


if __name__ == "__main__":
    main()
