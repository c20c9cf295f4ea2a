"""A small application on each interface that commits what it is sent to a folder which outlives its container.

/entry/ID commits ID, once for each time that it is run; `seconds` waits first, `status` answers with that status,
`commits` commits so many times (0 and 2 are the errors that the ledger's positive control looks for), `mib` takes so
much memory first, `size` is the answer's in bytes. A line is logged for each commit without an Idempotency-Key.
With an Idempotency-Key an entry is committed once, however often it is run. Anything else is the demonstration's.
"""

import asyncio
import logging
import os
import socket
import time
import uuid
from pathlib import Path
from urllib.parse import parse_qs

FOLDER = Path(os.environ["JOURNAL"])
DEFAULTS = {"status": 200, "commits": 1, "size": 3, "mib": 0}
log = logging.getLogger("journal")


def commit(entry, times, key):
    """Write `entry` down, or raise OSError: a disk may be full."""
    if key:
        # A file of its own, which gets its name when it is whole, and only if no other has the name.
        draft = FOLDER / f"draft-{uuid.uuid4()}"
        try:
            draft.write_text(entry)
            os.link(draft, FOLDER / f"entries-{key}")
        except FileExistsError:
            pass
        finally:
            draft.unlink(missing_ok=True)
        return
    name = os.environ.get("INSTANCE") or socket.gethostname()
    # One write, whoever else writes to the file; what a full disk cuts off is in a line of its own.
    line = f"\n{entry}\n".encode() * times
    with open(FOLDER / f"entries-{name}", "ab", buffering=0) as file:
        if file.write(line) != len(line):
            raise OSError("a part was written")
    log.info("committed %s %d times", entry, times)


def parse(query):
    values = {name: float(value) for name, (value, *_) in parse_qs(query).items()}
    status, times, size, mib = (int(values.get(name, default)) for name, default in DEFAULTS.items())
    return values.get("seconds", 0), status, times, size, mib


def wsgi(environ, start_response):
    path = environ["PATH_INFO"]
    if not path.startswith("/entry/"):
        from app import app

        return app(environ, start_response)
    seconds, status, times, size, mib = parse(environ["QUERY_STRING"])
    b"x" * (mib * 2**20)  # every page is written to
    time.sleep(seconds)
    commit(path.removeprefix("/entry/"), times, environ.get("HTTP_IDEMPOTENCY_KEY"))
    start_response(f"{status} Status", [("Content-Type", "text/plain"), ("Content-Length", str(size))])
    return [b"ok\n".ljust(size)]


async def asgi(scope, receive, send):
    path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
    if not path.startswith("/entry/"):
        from app import app

        return await app(scope, receive, send)
    seconds, status, times, size, mib = parse(scope["query_string"].decode())
    b"x" * (mib * 2**20)
    await asyncio.sleep(seconds)
    commit(path.removeprefix("/entry/"), times, dict(scope["headers"]).get(b"idempotency-key", b"").decode())
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % size)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok\n".ljust(size)})
