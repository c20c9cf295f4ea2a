"""A small application on each interface that commits what it is sent to a folder which outlives its container.

/entry/ID commits ID, once for each time that it is run; `seconds` waits first, `status` answers with that status,
`commits` commits so many times (0 and 2 are the errors that the ledger's positive control looks for).
With an Idempotency-Key an entry is committed once, however often it is run. Anything else is the demonstration's.
"""

import asyncio
import os
import socket
import time
from pathlib import Path
from urllib.parse import parse_qs

FOLDER = Path(os.environ["JOURNAL"])


def commit(entry, times, key):
    if key:
        try:
            (FOLDER / f"key-{key}").touch(exist_ok=False)
        except FileExistsError:
            return
    name = os.environ.get("INSTANCE") or socket.gethostname()
    # One write for each: whole or not at all, whoever else writes to the file.
    with open(FOLDER / f"entries-{name}", "ab", buffering=0) as file:
        file.write(f"{entry}\n".encode() * times)


def parse(query):
    values = {name: float(value) for name, (value, *_) in parse_qs(query).items()}
    return values.get("seconds", 0), int(values.get("status", 200)), int(values.get("commits", 1))


def wsgi(environ, start_response):
    path = environ["PATH_INFO"]
    if not path.startswith("/entry/"):
        from app import app

        return app(environ, start_response)
    seconds, status, times = parse(environ["QUERY_STRING"])
    time.sleep(seconds)
    commit(path.removeprefix("/entry/"), times, environ.get("HTTP_IDEMPOTENCY_KEY"))
    start_response(f"{status} Status", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]


async def asgi(scope, receive, send):
    path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
    if not path.startswith("/entry/"):
        from app import app

        return await app(scope, receive, send)
    seconds, status, times = parse(scope["query_string"].decode())
    await asyncio.sleep(seconds)
    commit(path.removeprefix("/entry/"), times, dict(scope["headers"]).get(b"idempotency-key", b"").decode())
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"3")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok\n"})
