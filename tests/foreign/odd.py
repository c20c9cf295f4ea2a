"""What applications do that a server or a balancer may not expect, the same with both interfaces."""

import asyncio
import json
import os
import pathlib
import socket
import tempfile
import time
from urllib.parse import parse_qs

INSTANCE = os.environ.get("INSTANCE") or socket.gethostname()


def is_sick():
    """Return whether this replica was told to fail: tests make this file."""
    return pathlib.Path(f"/tmp/sick-{INSTANCE}").exists()


def options(query):
    """Return the query's parameters, with their defaults."""
    given = {name: values[0] for name, values in parse_qs(query).items()}
    return {"type": "text/plain", "count": "10", "gap": "0.1", "bytes": "0", "status": "200"} | given


def plain(path, given, method, length, body):
    """Return the status, the headers and the body of what is answered in one piece."""
    if path == "/fails" or is_sick():
        return 500, [], b"fails"
    if path == "/status":
        return int(given["status"]), [], b"a body that no 204 or 304 has"
    if path == "/cannot-write":
        return 400, [], b"as FastAPI says when it cannot store an upload"
    if path == "/longer":
        return 200, [("content-length", "5")], b"hello, and more than was announced"
    if path == "/letters":
        asked = [(name, given[name]) for name in ("content-type", "cache-control", "content-encoding") if name in given]
        return 200, [*asked, ("content-length", given["bytes"])], b"x" * int(given["bytes"])
    if path == "/head":
        return 200, [("x-large", "x" * int(given["bytes"])), ("content-length", "2")], b"ok"
    if path.startswith("/late"):
        time.sleep(float(given["gap"]))
    if path == "/spool":
        with tempfile.TemporaryFile() as file:
            file.write(body)
            file.flush()
            time.sleep(0.5)
    told = {"instance": INSTANCE, "method": method, "length": length, "size": len(body), "start": body[:20].decode()}
    return 200, [("content-type", "application/json")], json.dumps(told).encode()


async def asgi(scope, receive, send):
    """Answer over ASGI."""
    assert scope["type"] == "http", "no lifespan here"
    path, given = scope["path"].removeprefix("/asgi"), options(scope["query_string"].decode())
    if path == "/hangs":
        time.sleep(1000)  # noqa: ASYNC251 - the mistake that a watchdog is for
    if path == "/slow":
        await asyncio.sleep(0.05)
    if path == "/chunks":
        headers = [(b"content-type", given["type"].encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(int(given["count"])):
            await send({"type": "http.response.body", "body": b"data: %f\n\n" % time.time(), "more_body": True})
            await asyncio.sleep(float(given["gap"]))
        return await send({"type": "http.response.body", "body": b""})
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    length = dict(scope["headers"]).get(b"content-length", b"").decode()
    status, headers, answer = await asyncio.to_thread(plain, path, given, scope["method"], length, body)
    encoded = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": answer})


def wsgi(environ, start_response):
    """Answer over WSGI; read the body as PEP 3333 has it, up to CONTENT_LENGTH."""
    path, given = environ["PATH_INFO"], options(environ["QUERY_STRING"])
    if path == "/slow":
        time.sleep(0.05)
    if path == "/chunks":
        start_response("200 OK", [("content-type", given["type"])])
        return chunks(given)
    length = environ.get("CONTENT_LENGTH", "")
    body = environ["wsgi.input"].read(int(length or 0))
    status, headers, answer = plain(path, given, environ["REQUEST_METHOD"], length, body)
    start_response(f"{status} X", headers)
    return [answer]


def chunks(given):
    """Yield the time, again and again."""
    for _ in range(int(given["count"])):
        yield b"data: %f\n\n" % time.time()
        time.sleep(float(given["gap"]))


def any_arguments(*arguments):
    """Serve nothing, with either interface."""
    raise NotImplementedError(arguments)
