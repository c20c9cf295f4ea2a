"""The ASGI demonstration, in FastAPI. Replace this file, or set ASGI_APP to another callable."""

import asyncio
import hashlib
import json
import logging
import os
import platform
import socket
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

INSTANCE = os.environ.get("INSTANCE") or socket.gethostname()
BODY_LIMIT = 10 * 1024 * 1024  # bytes
REPLAY_LIMIT = 1000  # events
RANGES = {"seconds": (0, 15), "rounds": (0, 1_000_000), "interval_ms": (100, 60_000)}

PROBLEM = {
    "description": "Problem details (RFC 9457)",
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                },
                "required": ["type", "title", "status", "detail"],
            }
        }
    },
}

app = FastAPI(title="ASGI service", version="1.0", redirect_slashes=False, responses={"4XX": PROBLEM})
log = logging.getLogger("app")


class HeadAsGet:
    """Passes HEAD on as GET, and the server leaves out the body. FastAPI's routes refuse it, unlike Starlette's."""

    def __init__(self, application: ASGIApp) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, with the method changed."""
        if scope.get("method") == "HEAD":
            scope = {**scope, "method": "GET"}
        await self.application(scope, receive, send)


app.add_middleware(HeadAsGet)


def in_range(field: str) -> Any:
    """Declare a query parameter with its range."""
    low, high = RANGES[field]
    return Query(ge=low, le=high, allow_inf_nan=False)


def problem(status: int, detail: str, headers: Any = None, **extra: Any) -> JSONResponse:
    """Return an error as RFC 9457 problem details."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail} | extra
    return JSONResponse(content, status, headers, media_type="application/problem+json")


@app.exception_handler(StarletteHTTPException)
async def http_problem(_: Request, error: StarletteHTTPException) -> JSONResponse:
    return problem(error.status_code, str(error.detail), error.headers)


@app.exception_handler(RequestValidationError)
async def validation_problem(_: Request, error: RequestValidationError) -> JSONResponse:
    """Report the first invalid field, and its range."""
    first = error.errors()[0]
    field = str(first["loc"][-1])
    if field not in RANGES:
        return problem(422, f"{field}: {first['msg']}", field=field)
    low, high = RANGES[field]
    noun = "a number" if field == "seconds" else "a whole number"
    return problem(422, f"{field} must be {noun} from {low} to {high}", field=field, minimum=low, maximum=high)


@app.get("/whoami")
async def whoami(request: Request, x_request_id: Annotated[str | None, Header()] = None) -> dict[str, Any]:
    """Return which replica responds, and the request as the application sees it."""
    return {
        "service": "asgi",
        "interface": "ASGI",
        "server": f"uvicorn {version('uvicorn')}",
        "framework": f"FastAPI {version('fastapi')}",
        "python": platform.python_version(),
        "instance": INSTANCE,
        "pid": os.getpid(),
        "request_id": x_request_id,
        "client": request.client.host if request.client else None,
        "url": str(request.url_for("whoami")),
    }


@app.get("/plaintext", response_class=PlainTextResponse)
async def plaintext() -> str:
    return "Hello, World!"


@app.get("/json")
async def json_message() -> dict[str, str]:
    return {"message": "Hello, World!"}


@app.get("/wait")
async def wait(
    seconds: Annotated[float, in_range("seconds")] = 0.1, mode: Literal["async", "thread", "blocking"] = "async"
) -> dict[str, float]:
    """Wait, as for a database: `async` holds nothing, `thread` a thread, `blocking` the whole process."""
    if mode == "async":
        await asyncio.sleep(seconds)
    elif mode == "thread":
        await run_in_threadpool(time.sleep, seconds)
    else:
        time.sleep(seconds)  # noqa: ASYNC251 - the mistake that the load tests measure
    return {"waited": seconds}


@app.get("/work")
def work(rounds: Annotated[int, in_range("rounds")] = 1000) -> dict[str, int | str]:
    """Compute: hash a digest with SHA-256 again, `rounds` times. Not `async`, so it does not block the event loop."""
    digest = b""
    for _ in range(rounds):
        digest = hashlib.sha256(digest).digest()
    return {"rounds": rounds, "digest": digest.hex()}


@app.post("/echo")
async def echo(request: Request) -> dict[str, int | str]:
    """Read the body as it arrives and return its size and SHA-256."""
    too_large = HTTPException(413, f"the body must not exceed {BODY_LIMIT} bytes")
    if int(request.headers.get("content-length", 0)) > BODY_LIMIT:
        raise too_large
    size, digest = 0, hashlib.sha256()
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > BODY_LIMIT:
                raise too_large
            digest.update(chunk)
    except ClientDisconnect:
        raise HTTPException(400, "the body ended early") from None
    log.info("echoed %d bytes", size)
    return {"size": size, "sha256": digest.hexdigest()}


class Resume:
    """Where an event stream starts: now, or after the client's `Last-Event-ID`."""

    def __init__(
        self,
        interval_ms: Annotated[int, in_range("interval_ms")] = 1000,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> None:
        self.interval = interval_ms / 1000
        self.now = int(time.time() / self.interval)
        self.first = self.now
        if last_event_id:
            last = int(last_event_id) if last_event_id.isdecimal() and len(last_event_id) < 20 else -1
            if not 0 <= last <= self.now + 1:  # 1: another replica's clock may be ahead
                raise LastEventIDError(self.now)
            self.first = last + 1


class LastEventIDError(Exception):
    """The client's Last-Event-ID is not an event number."""


@app.exception_handler(LastEventIDError)
async def last_event_id_problem(_: Request, error: LastEventIDError) -> JSONResponse:
    now = error.args[0]
    detail = f"Last-Event-ID must be a whole number from 0 to {now}"
    return problem(422, detail, field="Last-Event-ID", minimum=0, maximum=now)


@app.get("/events", response_class=EventSourceResponse)
async def events(resume: Annotated[Resume, Depends()]) -> AsyncIterator[ServerSentEvent]:
    """Stream Server-Sent Events. Event n is due when the clock reaches n x interval, on every replica."""
    n, oldest = resume.first, resume.now - REPLAY_LIMIT + 1
    if n < oldest:
        yield ServerSentEvent(event="gap", data={"from": n, "to": oldest - 1})
        n = oldest
    while True:
        await asyncio.sleep(n * resume.interval - time.time())
        yield ServerSentEvent(id=str(n), data={"n": n, "instance": INSTANCE})
        n += 1


@app.websocket("/ws")
async def websocket(socket: WebSocket) -> None:
    """Echo every text message, and send a tick every `interval_ms`, numbered like /events."""
    try:
        interval_ms = int(socket.query_params.get("interval_ms", 1000))
    except ValueError:
        interval_ms = -1
    low, high = RANGES["interval_ms"]
    if not low <= interval_ms <= high:
        detail = f"interval_ms must be a whole number from {low} to {high}"
        await socket.send_denial_response(problem(422, detail, field="interval_ms", minimum=low, maximum=high))
        return
    await socket.accept()
    ticker = asyncio.create_task(tick(socket, interval_ms / 1000))
    try:
        while (text := (message := await socket.receive()).get("text")) is not None:
            await socket.send_text(json.dumps({"type": "echo", "data": text}))
    except WebSocketDisconnect:
        return
    finally:
        ticker.cancel()
    if message["type"] == "websocket.receive":
        await socket.close(1003, "text messages only")


async def tick(socket: WebSocket, interval: float) -> None:
    """Send ticks until the client disconnects."""
    n = int(time.time() / interval) + 1
    try:
        while True:
            await asyncio.sleep(n * interval - time.time())
            await socket.send_text(json.dumps({"type": "tick", "n": n, "instance": INSTANCE}))
            n += 1
    except WebSocketDisconnect:
        pass


@app.get("/ws", include_in_schema=False)
async def websocket_without_upgrade() -> None:
    raise HTTPException(426, "/ws is WebSocket only: send `Upgrade: websocket`", {"Upgrade": "websocket"})
