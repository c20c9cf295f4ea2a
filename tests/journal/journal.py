"""A small application on each interface that commits every request to a folder which outlives its container.

/entry/ID commits ID each time it runs, or once if the request has an Idempotency-Key. Query parameters: `seconds` to
wait first, `status` to return, number of `commits` (0 and 2 are the errors that test the ledger), `mib` of memory to
take first, `size` of the response in bytes. Each commit without an Idempotency-Key logs a line. The demonstration
serves all other paths.
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
    """Write `entry` to the journal, or raise OSError, for example if the disk is full."""
    if key:
        # Write a draft, then link it under its final name, which fails if that name exists.
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
    # One write, as others append to the file too. A line cut off by a full disk stays separate from the others.
    line = f"\n{entry}\n".encode() * times
    with open(FOLDER / f"entries-{name}", "ab", buffering=0) as file:
        if file.write(line) != len(line):
            raise OSError("only a part was written")
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
