"""An ASGI application not written for this stack: no framework, no lifespan, a stream at an unexpected path."""

import asyncio
import atexit
import json
import os
import signal
import sys


async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": "foreign"})
        return
    assert scope["type"] == "http", "no lifespan here"
    if scope["path"] == "/asgi/at-exit":
        atexit.register(print, "said at exit", file=sys.stderr)
    if scope["path"] == "/asgi/feed":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for n in range(1000):
            await send({"type": "http.response.body", "body": f"id: {n}\n".encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            await asyncio.sleep(0.2)
        return
    if scope["path"] == "/asgi/quiet":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b":\n", "more_body": True})
            await asyncio.sleep(0.2)
        return
    if scope["path"] == "/asgi/large":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"30000000")]})
        return await send({"type": "http.response.body", "body": bytes(30_000_000)})
    if scope["path"] == "/asgi/dies":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        os.kill(os.getpid(), signal.SIGKILL)
    if scope["path"] == "/asgi/hollow":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b""})
    if scope["path"] == "/asgi/no-content":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        return await send({"type": "http.response.body", "body": b"none"})
    if scope["path"] == "/asgi/fails":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        raise FileNotFoundError("/nowhere")
    if scope["path"] == "/asgi/slow":
        await asyncio.sleep(1.1)
    size = 0
    while (message := await receive()).get("more_body") or message.get("body"):
        size += len(message["body"])
        if not message.get("more_body"):
            break
    told = {
        "client": scope["client"][0],
        "scheme": scope["scheme"],
        "prefix": scope["root_path"],
        "path": scope["path"].removeprefix(scope["root_path"]),
        "size": size,
    }
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


async def unready(scope, receive, send):
    """Fail at startup like Starlette, but after supervisor considers the process started."""
    await receive()
    await asyncio.sleep(1.5)
    trace = 'Traceback (most recent call last):\n  ...\nRuntimeError: "the database" has gone\n'
    await send({"type": "lifespan.startup.failed", "message": trace})
